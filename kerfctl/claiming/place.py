"""Pods with claims placed one after another, as kube-scheduler and its allocator would, beside what is held already."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from deviceplugin.core.offered import NodeView, offered
from kerf.values.cel import Unread
from kerf.values.claim import Claim, divide
from kerf.values.device_ask import ClaimAsk
from kerf.values.grant import Grant
from kerf.values.node import Node
from kerf.values.units import MIB
from kerf.values.vendor import Vendor
from kerf.views.lines import PodLine, pod_line
from kerf.wire.claim_requests import known_classes, names_ours, parse_ask
from kerf.wire.claims import claim_uses, parse_claim, with_claims
from kerf.wire.devices import DRIVER, MEMORY
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.resourceslices import render_pool
from kerfctl.candidates import candidates
from kerfctl.claiming.allocate import Ended, Pick, allocate
from kerfctl.claiming.devices import Books, Pool, books_of, pool_of
from kerfctl.claiming.objects import (
    Claiming,
    NoClaim,
    Objects,
    by_key,
    node_of,
    tenants_of,
)
from kerfctl.claiming.why import why_not

if TYPE_CHECKING:
    from kerfctl.offers import Offers
    from kerfctl.world import World
    from scheduler.state.store import Store

BOTH = (
    "it asks for cards by extended resources of Kerf's scheduler and by claims, which the node refuses: use one of them"
)


@dataclass(frozen=True, slots=True)
class Where:
    """Nodes that could allocate a pod's claims, in the order in which they were looked at; or why none can."""

    nodes: tuple[str, ...] = ()
    picks: tuple[Pick, ...] = ()
    """On the first of them."""
    sentence: str = ""
    read: bool = True
    """False where kerf cannot say, because it does not read a selector."""


@dataclass(slots=True)
class ClaimPlaces:
    """The nodes' devices beside what claims hold, as pods are placed."""

    store: "Store"
    offers: "Offers"
    nodes: Sequence[Node]
    objects: Objects
    unread: list[str] = field(default_factory=list)
    """Pods of which kerf cannot say where they go, a line each."""

    def claiming(self, pod: Json) -> Claiming | str | None:
        """The pod with its claims, why it has none to look at, or None for a pod that uses no claims."""
        try:
            return self.objects.claiming(pod)
        except NoClaim as error:
            return str(error)

    def where(self, pod: Claiming) -> Where:
        """Where the pod's claims can be allocated."""
        key = f"{text_at(pod.pod, 'metadata', 'namespace') or 'default'}/{text_at(pod.pod, 'metadata', 'name')}"
        if refusal := self._refused(pod):
            return Where(sentence=refusal)
        try:
            asks = [
                parse_ask(claim, self.objects.classes) for claim in pod.claims if not at(claim, "status", "allocation")
            ]
        except WireError as error:
            return Where(sentence=str(error))
        allowed = candidates(pod.spec or at(pod.pod, "spec"), self.nodes, self.offers)
        if allowed.sentence:
            return Where(sentence=allowed.sentence)
        held = {node for claim in pod.claims if (node := node_of(claim))}
        names = [name for name in allowed.names if held <= {name}]
        if not names:
            return Where(sentence=f"its claims hold devices of {', '.join(sorted(held))}, which it may not use")
        roomy = [name for name in names if self._has_room(pod.pod, name)]
        if not roomy:
            return Where(sentence="no node that it may use has enough CPU and memory")
        try:
            found = self._search(asks, roomy)
        except Ended as error:
            return Where(sentence=str(error))
        except Unread as error:
            self.unread.append(f"not read: pod {key}: {error}")
            return Where(sentence=str(error), read=False)
        return self._within_quota(pod, found) if found.nodes else found

    def place(self, pod: Claiming) -> PodLine | str:
        """Allocate the pod's claims on the first node that can, and bind it there; or why that cannot be."""
        found = self.where(pod)
        if not found.nodes:
            return found.sentence
        node, users = found.nodes[0], [_user(pod.pod)]
        allocated = self._allocated(pod, found)
        claims = [allocated.get(text_at(claim, "metadata", "name"), _reserved(claim, users)) for claim in pod.claims]
        self.objects = self.objects.with_claims(claims)
        bound = {**pod.pod, "spec": {**(pod.spec or at(pod.pod, "spec")), "nodeName": node}}
        return self._bind(bound, [parse_claim(claim) for claim in claims], node)

    # ---- inside
    def _allocated(self, pod: Claiming, found: Where) -> dict[str, Json]:
        """The pod's claims that wait, by name, as they are once kube-scheduler has allocated them."""
        waiting = [claim for claim in pod.claims if not at(claim, "status", "allocation")]
        return {
            text_at(claim, "metadata", "name"): allocated_claim(
                claim, found.nodes[0], [p for p in found.picks if p.claim == i], [_user(pod.pod)]
            )
            for i, claim in enumerate(waiting)
        }

    def _within_quota(self, pod: Claiming, found: Where) -> Where:
        """The same, unless quota refuses what the claims would hold together."""
        asked = [_counted(parse_claim(claim)) for claim in self._allocated(pod, found).values()]
        refusals = (self.store.allocations.refusal(claim, 0) for claim in asked)
        why = next((why for why in refusals if why), "")
        for claim in asked:
            self.store.allocations.forget(claim.uid)
        return Where(sentence=why) if why else found

    def _refused(self, pod: Claiming) -> str:
        """Why the API server or the node refuses the pod, wherever it goes."""
        namespace, uid = text_at(pod.pod, "metadata", "namespace") or "default", text_at(pod.pod, "metadata", "uid")
        waits = [claim for claim in pod.claims if not at(claim, "status", "allocation")]
        if waits and (why := self.objects.refusal(namespace)):
            new = any(names_ours(claim) and not at(claim, "metadata").get("creationTimestamp") for claim in waits)
            return f"refused at creation: {why}" if new else why
        waiting = self.store.desk.waiting_pod(uid)
        if waiting is not None and waiting.ask.containers:
            return BOTH
        for claim in pod.claims:
            others = [each for each in items_at(claim, "status", "reservedFor") if each.get("uid") != uid]
            if others:
                return (
                    f"claim {text_at(claim, 'metadata', 'name')} serves pod {text_at(others[0], 'name')} already, and "
                    "a slice belongs to one pod: use a ResourceClaimTemplate"
                )
        return ""

    def _search(self, asks: Sequence[ClaimAsk], names: Sequence[str]) -> Where:
        pools = {name: self._pool(name) for name in names}
        fitting: list[str] = []
        first: tuple[Pick, ...] = ()
        for name, (pool, books) in pools.items():
            picks = allocate(asks, pool, books)
            if picks is not None:
                first = first if fitting else picks
                fitting.append(name)
        if fitting:
            return Where(tuple(fitting), first)
        return Where(sentence=why_not(asks, list(pools.values()), [self.store.desk.state(name) for name in names]))

    def _pool(self, name: str) -> tuple[Pool, Books]:
        """What a node's driver lists now, and what claims hold of it."""
        state, node = self.store.desk.state(name), self.store.desk.node(name)
        assert node is not None, "only nodes that the store knows are looked at"
        policy = self.store.desk.policy
        view = NodeView(node.cordoned, policy.recovery_on(node), evicts=not policy.recovery.dry_run)
        uses = {card.card.id: card.used for card in state.cards}
        cards = offered((card.card for card in state.cards), uses, view, policy)
        pool = pool_of(name, render_pool(name, name, cards, shares=True))
        return pool, books_of(pool, self.objects.allocated_on(name))

    def _has_room(self, pod: Json, name: str) -> bool:
        ask, _ = self.store.desk.read(pod)
        state = self.store.desk.state(name)
        return state.schedulable and ask.cpu_milli <= state.free_cpu_milli and ask.memory_mib <= state.free_memory_mib

    def _bind(self, pod: Json, claims: list[Claim], node: str) -> PodLine | str:
        """Charge what the claims hold. A pod that the node refuses holds it all the same, until it is deleted."""
        vendors: tuple[Vendor, ...] = self.store.desk.vendors
        cards = {card.card.id: card.card for card in self.store.desk.state(node).cards}
        shown = with_claims(pod, {claim.key: claim for claim in claims}, cards, vendors[0].name)
        for claim in claims:
            self.store.allocations.see(_counted(claim), 0)
        self.store.feed.apply_pod("ADDED", shown)
        self.offers.take(at(pod, "spec"), node)
        division = divide(claim_uses(pod), {claim.name: claim for claim in claims})
        if division.problem:
            return f"its claims are allocated on {node}, which refuses to start it: {division.problem}"
        booking = self.store.ledger.get(text_at(pod, "metadata", "uid"))
        key = f"{text_at(pod, 'metadata', 'namespace') or 'default'}/{text_at(pod, 'metadata', 'name')}"
        if booking is None or booking.holding is None:
            return pod_line(key, "Placed", node, Grant(()))
        return pod_line(key, "Placed", node, booking.holding.grant)


def claim_places(world: "World", store: "Store") -> ClaimPlaces:
    """The places that a world has for claims."""
    quota_kept = world.enforced or world.kueue
    objects = Objects(
        claims=by_key(world.claims),
        templates=by_key(world.templates),
        classes=known_classes(world.device_classes),
        tenants=tenants_of(world.tenants or ()) if quota_kept else (),
    )
    return ClaimPlaces(store, world.offers(), store.desk.nodes(), objects)


def _counted(claim: Claim) -> Claim:
    """The claim as the store counts it: claims of files have no uid."""
    return replace(claim, uid=claim.key)


def _user(pod: Json) -> dict[str, str]:
    return {"resource": "pods", "name": text_at(pod, "metadata", "name"), "uid": text_at(pod, "metadata", "uid")}


def _reserved(claim: Json, users: list[dict[str, str]]) -> Json:
    return {**claim, "status": {**at(claim, "status"), "reservedFor": users}}


def allocated_claim(claim: Json, node: str, picks: Iterable[Pick], users: list[dict[str, str]]) -> Json:
    """The claim as the API server has it once kube-scheduler has allocated it."""
    results = [_result(pick, node, f"{text_at(claim, 'metadata', 'uid')}/{i}") for i, pick in enumerate(picks)]
    return {**claim, "status": {"allocation": {"devices": {"results": results}}, "reservedFor": users}}


def _result(pick: Pick, node: str, share: str) -> dict[str, Any]:
    result = {"request": pick.request, "driver": DRIVER, "pool": node, "device": pick.device.name}
    if not pick.device.shared:
        return result
    return {**result, "shareID": share, "consumedCapacity": _quantities(pick.taken)}


def _quantities(taken: Mapping[str, Fraction]) -> dict[str, str]:
    return {
        name: f"{amount / MIB}Mi" if name == MEMORY and (amount / MIB).denominator == 1 else str(amount)
        for name, amount in taken.items()
    }
