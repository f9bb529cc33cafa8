"""What a container gets for its slices: environment, mounts and limits. Same grant and node, same text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.grant import Slice
from kerf.values.units import MIB
from kerf.vendors.registry import VENDORS
from kerf.wire.cdi import Edits, Mount, render_spec
from kerf.wire.limiter import CardLimit, LedgerSpec, Policy

INSIDE = "/usr/local/kerf"
"""Where everything of Kerf's stands inside a container."""
LEDGER = f"{INSIDE}/ledger"
LIBRARY = f"{INSIDE}/libkerf.so"
PRELOAD = "/etc/ld.so.preload"
DISABLE = "CUDA_DISABLE_CONTROL"
POD = "kerf.dev/pod"
UID = "kerf.dev/uid"
_NEEDS_0_7 = "additionalGids"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Host paths that containers are given. `limiter` and `preload` are empty where no limiter is installed."""

    limiter: str = ""
    """libkerf.so."""
    preload: str = ""
    """A file that holds the one line `/usr/local/kerf/libkerf.so`."""
    arbiters: tuple[tuple[str, str], ...] = ()
    """(card id, file) of the node-wide arbiters."""
    specs: tuple[tuple[str, Json], ...] = field(default=())
    """(card id, `containerEdits`) of the node's own CDI specs for whole cards."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How the limiter treats one container."""

    policy: Policy = "cap"
    priority: int = 1
    limited: bool = True
    """False: the ledger is there, the library is not loaded (`CUDA_DISABLE_CONTROL` on a node that allows it)."""


def limits_of(slices: tuple[Slice, ...], files: NodeFiles, terms: Terms) -> LedgerSpec:
    """The limiter's ledger for these slices, in the order of the container's device indices."""
    arbiters = dict(files.arbiters)
    cards = tuple(
        CardLimit(s.card, s.memory_mib * MIB, s.cores or None, f"{INSIDE}/arbiter-{i}" if s.card in arbiters else "")
        for i, s in enumerate(slices)
    )
    return LedgerSpec(cards, terms.policy, terms.priority)


def edits_of(slices: tuple[Slice, ...], ledger: str, files: NodeFiles, terms: Terms) -> Edits:
    """The container's edits; `ledger` is the host path of its ledger file."""
    specs, arbiters = dict(files.specs), dict(files.arbiters)
    merged = tuple(specs[s.card] for s in slices if s.card in specs)
    env = [*_visible(slices, merged), *_hami_names(slices), ("KERF_LEDGER", LEDGER)]
    mounts = [Mount(ledger, LEDGER, read_only=False)]
    mounts += [
        Mount(arbiters[s.card], f"{INSIDE}/arbiter-{i}", read_only=False)
        for i, s in enumerate(slices)
        if s.card in arbiters
    ]
    if files.limiter and terms.limited:
        mounts += [Mount(files.limiter, LIBRARY), Mount(files.preload, PRELOAD)]
    return Edits(tuple(env), tuple(mounts), merged)


def render_specs(pod: str, uid: str, devices: tuple[tuple[str, Edits], ...]) -> str:
    """A CDI spec file with one device per name. The pod stands in its annotations, for the clean-up."""
    documents = [json.loads(render_spec(name, edits)) for name, edits in devices]
    listed = [device for document in documents for device in document["devices"]]
    newer = any(_NEEDS_0_7 in device["containerEdits"] for device in listed)
    version = "0.7.0" if newer else documents[0]["cdiVersion"]
    whole = {**documents[0], "cdiVersion": version, "annotations": {POD: pod, UID: uid}, "devices": listed}
    return json.dumps(whole, indent=1, sort_keys=True)


def spec_uid(text: str) -> str:
    """The uid of the pod a spec file was written for, "" if it is damaged or not Kerf's."""
    try:
        document = json.loads(text)
    except ValueError:
        return ""
    notes = document.get("annotations") if isinstance(document, dict) else None
    return str(notes.get(UID, "")) if isinstance(notes, dict) else ""


def wants_no_limiter(container: Json) -> bool:
    """Whether the container's environment asks to run without the limiter (HAMi's `CUDA_DISABLE_CONTROL=true`)."""
    env = container.get("env")
    return isinstance(env, list) and any(
        isinstance(item, Mapping) and item.get("name") == DISABLE and str(item.get("value")).lower() == "true"
        for item in env
    )


def _visible(slices: tuple[Slice, ...], merged: tuple[Json, ...]) -> list[tuple[str, str]]:
    """The vendor runtime's variable, where the node's own CDI specs do not bring every card in."""
    if len(merged) == len(slices):
        return []
    return [
        (vendor.visible_devices, ",".join(s.card for s in slices if s.vendor == vendor.name))
        for vendor in VENDORS
        if any(s.vendor == vendor.name for s in slices)
    ]


def _hami_names(slices: tuple[Slice, ...]) -> list[tuple[str, str]]:
    """Names that tools around HAMi read. Information only: the limiter obeys the ledger."""
    memory = [(f"CUDA_DEVICE_MEMORY_LIMIT_{i}", f"{s.memory_mib}m") for i, s in enumerate(slices)]
    return [*memory, ("CUDA_DEVICE_SM_LIMIT", str(slices[0].cores))]
