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
from kerf.values.grant import NO_VENDORS, CardUse, Grant, Holding, card_uses, vendors_of
from kerf.values.quick import quick
from kerf.values.recorded import Record
from kerf.values.subject import NO_SUBJECT, Subject
from kerf.values.traits import Traits
from kerf.values.vendor import Vendor, recorded_grant
from kerf.values.verdict import Misfit, Reason
from kerf.wire.annotations import GRANT
from kerf.wire.claims import is_by_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, text_at
from kerf.wire.objects import cards_without_grant, parse_holding, parse_record
from kerf.wire.subject import bound_ms
from scheduler.state.templates import NAMELESS, Template, Templates

_LOG = logging.getLogger("kerf.store")


class State(StrEnum):
    """How sure the ledger is of a grant."""

    ASSUMED = "assumed"
    CONFIRMED = "confirmed"
    RESERVED = "reserved"  # held for a pod that is still pending: a gang's, a planned or a preempting pod's


@quick
@dataclass(frozen=True, slots=True)
class Booking:
    """A pod that holds capacity on a node: slices of cards, CPU (thousandths) and memory (MiB)."""

    key: str
    uid: str
    node: str
    state: State
    uses: Mapping[str, CardUse]
    template: Template
    """What the pod says, shared by all pods of one template."""
    holding: Holding | None = None
    created: str = ""
    """The pod's creation time as the API server writes it, which sorts."""
    subject: Subject = NO_SUBJECT
    """Whose use it is; known of confirmed pods that hold cards."""
    without_grant: int = 0
    """Cards that a running pod holds without a grant; nobody knows which, so its node takes no new slices."""
    record: Record = ()
    """What HAMi recorded of a pod that it bound: what `holding` was read from."""
    by_claims: bool = False
    """The grant was made of the pod's claims, and quota counts these."""
    since: float = 0.0
    """Monotonic seconds; set where the state can expire."""
    until: float = 0.0
    """Monotonic seconds at which a reservation ends."""

    @property
    def cpu_milli(self) -> int:
        """CPU in thousandths of a core."""
        return self.template.cpu_milli

    @property
    def memory_mib(self) -> int:
        """Memory of the node."""
        return self.template.memory_mib

    @property
    def priority(self) -> int:
        """The pod's priority."""
        return self.template.priority

    @property
    def gang(self) -> str | None:
        """The gang that the pod is of."""
        return self.template.gang

    @property
    def kind(self) -> str:
        """The kind of cards that the pod was given of several."""
        return self.template.kind

    @property
    def traits(self) -> Traits:
        """What the scopes of quotas tell pods apart by."""
        return self.template.traits

    @property
    def reach(self) -> Reach:
        """Which cards the pod might as well have taken."""
        return self.template.reach

    @property
    def vendor(self) -> str:
        """The vendor of the first card that the pod holds; empty where it holds none."""
        containers = self.holding.grant.containers if self.holding is not None else ()
        return next((container.slices[0].vendor for container in containers if container.slices), "")

    @property
    def part(self) -> str:
        """The part of a fleet's workload that the pod is of."""
        return self.template.part


def booking_of(pod: Json, vendors: tuple[Vendor, ...], templates: Templates) -> Booking:
    """A bound pod as a confirmed booking. What cannot be read of it holds nothing, and the log says so.

    What HAMi recorded is taken as it is written: `read_again` knows the node's cards.
    """
    meta = pod["metadata"]
    key = f"{meta.get('namespace') or 'default'}/{meta.get('name', '')}"
    common, granted = templates.common(pod), GRANT in at(meta, "annotations")
    holding: Holding | None = None
    record: Record = ()
    try:
        record = () if granted else parse_record(pod, vendors)
        holding = parse_holding(pod, vendors, read_stages=lambda _: templates.stages(common))
    except WireError as error:
        _LOG.warning("pod %s: %s", key, error)
    if holding is not None:
        key = holding.pod
    template = templates.of(common, vendors_of(holding.grant) if holding else NO_VENDORS)
    for problem in template.problems:
        _LOG.warning("pod %s: %s", key, problem)
    return Booking(  # by place: words cost as much again, for each of 40,000 pods
        key,
        str(meta.get("uid", "")),
        pod["spec"]["nodeName"],
        State.CONFIRMED,
        card_uses(holding.grant, holding.stages) if holding else {},
        template,
        holding,
        str(meta.get("creationTimestamp") or ""),
        _subject(pod, template) if holding else NO_SUBJECT,
        0 if granted else cards_without_grant(pod, vendors),
        record,
        is_by_claims(pod),
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
    common, bound = template.subject, bound_ms(pod)
    workload = f"{NAMELESS}{text_at(pod, 'metadata', 'name')}" if common.workload == NAMELESS else common.workload
    return Subject(bound, workload, common.model, common.engine)
