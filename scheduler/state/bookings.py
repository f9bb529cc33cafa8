"""What the ledger remembers of each pod, and the states a pod goes through.

::

    absent ──assume──▶ ASSUMED ──watch shows it bound──▶ CONFIRMED ──deleted, finished──▶ absent
                          │  ▲                                ▲
                          └──┴── undo (bind refused) ▶ absent │
    absent ──────────── watch shows it bound ─────────────────┘

An assumed pod stays charged until the API server confirms or rejects it: after a lost answer the pod is read again.
The first grant seen on a bound pod is the one that counts; a later change of the annotation is ignored.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kerf.values.ask import Reach
from kerf.values.grant import CardUse, Holding, card_uses
from kerf.values.subject import NO_SUBJECT, Subject
from kerf.values.traits import ORDINARY, Traits
from kerf.values.vendor import Vendor
from kerf.wire.accepts import parse_chosen
from kerf.wire.errors import WireError
from kerf.wire.gangs import gang_of
from kerf.wire.json import Json, at
from kerf.wire.objects import cards_without_grant, parse_holding
from kerf.wire.resources import effective_requests, reach_of
from kerf.wire.subject import subject_of
from kerf.wire.traits import traits_of
from scheduler.state.fleet import ANY_CARD

_LOG = logging.getLogger("kerf.store")


class State(StrEnum):
    """How sure the ledger is of a grant."""

    ASSUMED = "assumed"
    CONFIRMED = "confirmed"
    RESERVED = "reserved"  # held for a pod that is still pending: a gang's, a planned or a preempting pod's


@dataclass(frozen=True, slots=True)
class Booking:
    """A pod that holds capacity on a node: slices of cards, CPU (thousandths) and memory (MiB)."""

    key: str
    uid: str
    node: str
    state: State
    uses: Mapping[str, CardUse]
    cpu_milli: int = 0
    memory_mib: int = 0
    holding: Holding | None = None
    priority: int = 0
    gang: str | None = None
    kind: str = ""
    """The kind of cards that the pod was given of several."""
    traits: Traits = ORDINARY
    without_grant: int = 0
    """Cards that a running pod holds without a grant; nobody knows which, so its node takes no new slices."""
    created: str = ""
    """The pod's creation time as the API server writes it, which sorts."""
    since: float = 0.0
    """Monotonic seconds; set where the state can expire."""
    until: float = 0.0
    """Monotonic seconds at which a reservation ends."""
    reach: Reach = ANY_CARD
    """Which cards the pod might as well have taken."""
    subject: Subject = NO_SUBJECT
    """Whose use it is; known of confirmed pods that hold cards."""


def booking_of(pod: Json, vendors: tuple[Vendor, ...]) -> Booking:
    """A bound pod as a confirmed booking. What cannot be read of it holds nothing, and the log says so."""
    meta, spec = pod["metadata"], pod["spec"]
    key = f"{meta.get('namespace') or 'default'}/{meta.get('name', '')}"
    holding, gang, cpu, memory = None, None, 0, 0
    chosen = parse_chosen(at(meta, "annotations"))
    try:
        cpu, memory = effective_requests(spec, at(pod, "status"))
        gang = gang_of(meta, spec)[0]
    except WireError as error:
        _LOG.warning("pod %s: %s", key, error)
    try:
        holding = parse_holding(pod, vendors)
    except WireError as error:
        _LOG.warning("pod %s: %s", key, error)
    return Booking(
        key=key,
        uid=str(meta.get("uid", "")),
        node=spec["nodeName"],
        state=State.CONFIRMED,
        uses=card_uses(holding.grant, holding.stages) if holding else {},
        cpu_milli=cpu,
        memory_mib=memory,
        holding=holding,
        priority=int(spec.get("priority") or 0),
        gang=gang,
        kind=chosen.kind if chosen else "",
        traits=traits_of(spec),
        without_grant=cards_without_grant(pod, vendors),
        created=str(meta.get("creationTimestamp") or ""),
        reach=_reach(pod, holding, vendors, key) if holding else ANY_CARD,
        subject=subject_of(pod) if holding else NO_SUBJECT,
    )


def _reach(pod: Json, holding: Holding, vendors: tuple[Vendor, ...], key: str) -> Reach:
    held = {slice_.vendor for part in holding.grant.containers for slice_ in part.slices}
    try:
        return reach_of(pod, (vendor.words for vendor in vendors if vendor.name in held))
    except WireError as error:
        _LOG.warning("pod %s: %s", key, error)
        return ANY_CARD
