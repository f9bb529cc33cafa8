"""A pod, or the template of pods, made to say what the scheduler will read and quota will count."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kerf.values.accounts import TenantAccount
from kerf.values.ask import ContainerAsk, PodAsk, Stage
from kerf.wire.admission import PatchOp, pointer
from kerf.wire.resources import containers_of
from webhook.core.classes import Cards, cards_for
from webhook.core.defaults import NO_CARDS, fill_container
from webhook.core.edits import Edits, Path, child
from webhook.core.rules import (
    DEFAULT_SCHEDULERS,
    mentioned_card,
    read_ask,
    refuse_foreign_scheduler,
    refuse_opted_out_cards,
)
from webhook.core.settings import Settings

Json = Mapping[str, Any]
_SILENT = Settings(vendors=())
"""No vendor is read: only totals are looked at."""
NO_ASK = PodAsk("", "", "")


@dataclass(frozen=True, slots=True)
class Normal:
    """What makes a pod normal, the ask that it is then, and the tenant's cards that may serve it, by vendor."""

    edits: Edits = field(default_factory=Edits)
    ask: PodAsk = NO_ASK
    cards: Mapping[str, Cards] = field(default_factory=dict)


def normalise(pod: Json, settings: Settings, tenant: TenantAccount | None, root: Path = ()) -> Normal:
    """Apply every rule and default to a pod, or to a template that stands at `root` of its object. Raises WireError.

    Fields in errors and warnings are named from the pod on. A container that asks for nothing keeps no totals.
    """
    spec = child(pod, "spec")
    asked = mentioned_card(spec, settings.vendors)
    ask = read_ask(pod, settings) if asked else NO_ASK
    cards = cards_for(ask, tenant, settings.vendors) if tenant and ask.containers else NO_CARDS
    edits = place(spec, settings, root) if ask.containers else Edits()
    settled: list[ContainerAsk] = []
    for path, container, stage in numbered(spec, root):
        filled = fill_container(container, stage, path, settings if ask.containers else _SILENT, cards)
        edits += filled.edits
        settled += filled.asks
    return Normal(edits, replace(ask, containers=tuple(settled)), cards)


def take_out(pod: Json, settings: Settings, root: Path = ()) -> Edits:
    """What happens to a pod that opted out: it keeps no totals, and gets no cards but by Kerf. Raises WireError."""
    spec = child(pod, "spec")
    refuse_opted_out_cards(spec, settings)
    edits = Edits()
    for path, container, stage in numbered(spec, root):
        edits += fill_container(container, stage, path, _SILENT).edits
    return edits


def place(spec: Json, settings: Settings, root: Path) -> Edits:
    """The scheduler's name and the runtime class. Raises WireError for a scheduler that cannot divide cards."""
    operations = []
    refuse_foreign_scheduler(spec, settings)
    if str(spec.get("schedulerName") or "") in DEFAULT_SCHEDULERS:
        op = "replace" if "schedulerName" in spec else "add"
        operations.append(PatchOp(op, pointer(*root, "spec", "schedulerName"), settings.scheduler_name))
    if settings.runtime_class and not spec.get("runtimeClassName"):
        op = "replace" if "runtimeClassName" in spec else "add"
        operations.append(PatchOp(op, pointer(*root, "spec", "runtimeClassName"), settings.runtime_class))
    return Edits(tuple(operations))


def numbered(spec: Json, root: Path = ()) -> list[tuple[Path, Json, Stage]]:
    """Every container with its path in the object, in start order. Raises WireError."""
    containers = list(containers_of(spec))
    initial = len(spec.get("initContainers") or [])
    return [
        (
            (*root, "spec", "initContainers", i) if i < initial else (*root, "spec", "containers", i - initial),
            container,
            stage,
        )
        for i, (container, stage) in enumerate(containers)
    ]
