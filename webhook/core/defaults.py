"""Defaults: what is stored on a container says what will be charged for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.ask import ContainerAsk, Stage
from kerf.values.units import parse_quantity
from kerf.values.vendor import ResourceNames
from kerf.wire.admission import PatchOp, pointer
from kerf.wire.errors import WireError
from kerf.wire.resources import parse_container, resources_field
from webhook.core.classes import Cards
from webhook.core.edits import Edits, Path, child, edit_map
from webhook.core.settings import Settings
from webhook.core.totals import render_totals, settle, written_totals

Json = Mapping[str, Any]
TASK_PRIORITY = "CUDA_TASK_PRIORITY"
"""Environment variable in which HAMi's users and tools find a container's task priority."""
NO_CARDS: Mapping[str, Cards] = {}
"""The pod is nobody's: no totals."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What has to change on a container, and what it asks then, vendor by vendor."""

    edits: Edits = field(default_factory=Edits)
    asks: tuple[ContainerAsk, ...] = ()


def fill_container(
    container: Json, stage: Stage, path: Path, settings: Settings, cards: Mapping[str, Cards] = NO_CARDS
) -> Filled:
    """Resources and environment of one container. `cards` are those of its tenant, by vendor. Raises WireError."""
    wanted: dict[str, str | None] = dict.fromkeys(written_totals(container))
    env, warnings, asks = Edits(), [], []
    where = resources_field(container, stage)
    for names in settings.vendors:
        ask = parse_container(container, stage, names, settings.defaults)
        if ask is None:
            continue
        given = _agreed(container, names, where)
        warnings += _warnings(given, names, where)
        if names.vendor in cards:
            settled = settle(ask, cards[names.vendor], given, names, where)
            ask, warnings = settled.ask, [*warnings, *settled.warnings]
            wanted |= render_totals(ask, cards[names.vendor], names)
        asks.append(ask)
        wanted |= given | _resolved(ask, given, names)
        if names.priority in given:
            env += set_task_priority(container, path, str(int(parse_quantity(given[names.priority]))))
    forged = [name for name in written_totals(container) if wanted[name] is None]
    warnings += [f"{where}[{name[:80]}] is counted by Kerf alone; it was removed" for name in forged]
    return Filled(Edits(_resources(container, path, wanted), tuple(warnings)) + env, tuple(asks))


def _resources(container: Json, path: Path, wanted: Mapping[str, str | None]) -> tuple[PatchOp, ...]:
    resources = child(container, "resources")
    operations: tuple[PatchOp, ...] = ()
    for part in ("limits", "requests"):
        present = resources.get(part)
        held = present if isinstance(present, Mapping) else {}
        # "8k" and 8000 are one amount: what already says the same stays as the user wrote it.
        changes = {
            name: value for name, value in wanted.items() if value is None or not _same(held.get(name, ""), value)
        }
        operations += edit_map((*path, "resources", part), present, changes)
    return operations


def _agreed(container: Json, names: ResourceNames, where: str) -> dict[str, str | None]:
    """The vendor's amounts over limits and requests, which must not contradict each other."""
    resources = child(container, "resources")
    limits, requests = child(resources, "limits"), child(resources, "requests")
    for name in names.all:
        if name in limits and name in requests and not _same(limits[name], requests[name]):
            fix = f"the request says {str(requests[name])[:32]!r}: write the same in both, or drop the request"
            raise WireError(f"{where}[{name}]", limits[name], fix)
    both = {**requests, **limits}
    return {name: str(both[name]) for name in names.all if name in both}


def _resolved(ask: ContainerAsk, given: Mapping[str, str | None], names: ResourceNames) -> dict[str, str | None]:
    """What the ask says beyond, or instead of, what was given. None drops a resource that counts for nothing."""
    out: dict[str, str | None] = {}
    if names.count not in given:
        out[names.count] = str(ask.cards)
    if ask.memory_mib is not None and _number(given, names.memory) != ask.memory_mib:
        out[names.memory] = str(ask.memory_mib)
    if ask.memory_mib is not None and _number(given, names.memory_percent):
        out[names.memory_percent] = None
    if ask.cores and _number(given, names.cores) != ask.cores:
        out[names.cores] = str(ask.cores)
    return out


def _warnings(given: Mapping[str, str | None], names: ResourceNames, where: str) -> list[str]:
    """What the user should know: their words were bent, as HAMi bends them."""
    out = []
    if _number(given, names.memory) and _number(given, names.memory_percent):
        out.append(f"{where}: {names.memory} wins over {names.memory_percent}, which was dropped")
    if _number(given, names.cores) > 100:
        out.append(f"{where}[{names.cores}]: a card has 100, so 100 was written for {given[names.cores]}")
    return out


def set_task_priority(container: Json, path: Path, value: str) -> Edits:
    """The task priority as an environment variable; the resource has the last word over what stands there."""
    entry = {"name": TASK_PRIORITY, "value": value}
    present = container.get("env")
    if not isinstance(present, list):
        return Edits((PatchOp("add", pointer(*path, "env"), [entry]),))
    found = [i for i, other in enumerate(present) if isinstance(other, Mapping) and other.get("name") == TASK_PRIORITY]
    if not found:
        return Edits((PatchOp("add", pointer(*path, "env", "-"), entry),))
    changed = [i for i in found if present[i] != entry]
    return Edits(tuple(PatchOp("replace", pointer(*path, "env", i), entry) for i in changed))


def task_priority(container: Json) -> str | None:
    """The task priority in a container's environment."""
    present = container.get("env")
    entries = present if isinstance(present, list) else []
    found = [entry for entry in entries if isinstance(entry, Mapping) and entry.get("name") == TASK_PRIORITY]
    return str(found[0].get("value")) if found else None


def _number(given: Mapping[str, str | None], name: str) -> int:
    return int(parse_quantity(given[name])) if name in given else 0


def _same(one: object, other: object) -> bool:
    try:
        return parse_quantity(one) == parse_quantity(other)
    except ValueError:
        return one == other
