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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from kerf.values.ask import Reach
from kerf.values.device import Card
from kerf.values.grant import CardUse, Grant, Holding, card_uses
from kerf.values.recorded import Record
from kerf.values.subject import NO_SUBJECT, Subject
from kerf.values.traits import ORDINARY, Traits
from kerf.values.vendor import Vendor, recorded_grant
from kerf.values.verdict import Misfit, Reason
from kerf.wire.claims import is_by_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, text_at
from kerf.wire.objects import cards_without_grant, parse_holding, parse_record
from kerf.wire.subject import bound_ms
from scheduler.state.fleet import ANY_CARD
from scheduler.state.templates import NAMELESS, Template, Templates

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
    record: Record = ()
    """What HAMi recorded of a pod that it bound: what `holding` was read from."""
    part: str = ""
    """The part of a fleet's workload that the pod is of."""
    by_claims: bool = False
    """The grant was made of the pod's claims, and quota counts these."""


def booking_of(pod: Json, vendors: tuple[Vendor, ...], templates: Templates) -> Booking:
    """A bound pod as a confirmed booking. What cannot be read of it holds nothing, and the log says so.

    What HAMi recorded is taken as it is written: `read_again` knows the node's cards.
    """
    meta, spec = pod["metadata"], pod["spec"]
    key = f"{meta.get('namespace') or 'default'}/{meta.get('name', '')}"
    common = templates.common(pod)
    holding: Holding | None = None
    record: Record = ()
    try:
        record = parse_record(pod, vendors)
        holding = parse_holding(pod, vendors, read_stages=lambda _: templates.stages(common))
    except WireError as error:
        _LOG.warning("pod %s: %s", key, error)
    held = frozenset([slice_.vendor for part in holding.grant.containers for slice_ in part.slices] if holding else ())
    template = templates.of(common, held)
    for problem in template.problems:
        _LOG.warning("pod %s: %s", key, problem)
    return Booking(
        key=key,
        uid=str(meta.get("uid", "")),
        node=spec["nodeName"],
        state=State.CONFIRMED,
        uses=card_uses(holding.grant, holding.stages) if holding else {},
        cpu_milli=template.cpu_milli,
        memory_mib=template.memory_mib,
        holding=holding,
        priority=template.priority,
        gang=template.gang,
        kind=template.kind,
        traits=template.traits,
        without_grant=cards_without_grant(pod, vendors),
        created=str(meta.get("creationTimestamp") or ""),
        reach=template.reach,
        subject=_subject(pod, template) if holding else NO_SUBJECT,
        record=record,
        part=template.part,
        by_claims=is_by_claims(pod),
    )


def read_again(booking: Booking, vendors: tuple[Vendor, ...], cards: Iterable[Card]) -> Booking:
    """The booking of a pod that HAMi bound, now that its node has these cards; every other one as it is."""
    if not booking.record or booking.holding is None:
        return booking
    grant = recorded_grant(booking.record, vendors, cards)
    if grant == booking.holding.grant:
        return booking
    uses = card_uses(grant, booking.holding.stages)
    return replace(booking, holding=replace(booking.holding, grant=grant), uses=uses)


def bound_again(known: Booking, node: str) -> Grant | Misfit:
    """A second bind of a pod that is assumed or bound: the same answer for the same node, else a refusal."""
    if known.node == node and known.holding is not None:
        return known.holding.grant
    return Misfit(Reason.RESERVED, detail=f"the pod is already {known.state} on {known.node}")


def _subject(pod: Json, template: Template) -> Subject:
    common = template.subject
    workload = f"{NAMELESS}{text_at(pod, 'metadata', 'name')}" if common.workload == NAMELESS else common.workload
    return Subject(bound_ms(pod), workload, common.model, common.engine)
