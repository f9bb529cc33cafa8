"""Claims: what Kubernetes' own allocator gave a pod of the cards that Kerf offers it, and what each container gets."""

from collections.abc import Mapping
from dataclasses import dataclass

from kerf.values.ask import Stage, Stages
from kerf.values.device import Card
from kerf.values.grant import ContainerGrant, Grant, Holding, Slice
from kerf.values.mig import place_at

ClaimRequest = tuple[str, str]
"""(name of the ResourceClaim, name of the request in it)."""
UNUSED = "claim:"
"""What a claim gives to no container is held all the same, under a name that no container can have."""


@dataclass(frozen=True, slots=True)
class Share:
    """One device of an allocated claim. A whole card has no `memory_mib`: it is all that the card has."""

    request: str
    device: str
    card: str
    memory_mib: int | None = None
    cores: int = 0
    share_id: str = ""
    admin: bool = False
    partition: tuple[int, int] | None = None
    """Of a MIG instance: its profile's number, and its first memory slice."""

    def misplaced(self, card: Card) -> str:
        """Why the card cannot give this device as it is now; empty where it can. A card changes its mode when empty."""
        if (self.partition is None) != (card.mig is None):
            return f"device {self.device} is none of card {card.id} in its present mode: delete the pod"
        if self.partition is not None and _placed(self, card, "") is None:
            return f"the driver makes no MIG instance for device {self.device} of card {card.id}: delete the pod"
        return ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A ResourceClaim as allocated. Without shares it is not allocated, or holds devices of other drivers only."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    shares: tuple[Share, ...] = ()
    consumers: tuple[tuple[str, str], ...] = ()
    """(pod's name, pod's uid) of those that it is reserved for."""
    allocated: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClaimUse:
    """Which requests of which claims a container names; an empty request stands for all of the claim's."""

    container: str
    stage: Stage
    requests: tuple[ClaimRequest, ...]


@dataclass(frozen=True, slots=True)
class Portion:
    """The shares that containers get together, and the containers. Only one of these runs at a time."""

    containers: tuple[str, ...]
    shares: tuple[tuple[Claim, Share], ...]


@dataclass(frozen=True, slots=True)
class Division:
    """What each container of a pod gets of its claims. `problem` says in one sentence why that cannot be kept."""

    portions: tuple[Portion, ...] = ()
    unused: tuple[tuple[Claim, Share], ...] = ()
    problem: str = ""


def divide(uses: tuple[ClaimUse, ...], claims: Mapping[str, Claim]) -> Division:
    """Divide a pod's claims among its containers. A slice belongs to one running container."""
    wanted = {use.container: _shares(use, claims) for use in uses}
    groups: dict[frozenset[tuple[str, Share]], list[str]] = {}
    for name, shares in wanted.items():
        if shares:  # in whatever order they are named
            groups.setdefault(frozenset((claim.uid, share) for claim, share in shares), []).append(name)
    portions = tuple(Portion(tuple(names), wanted[names[0]]) for names in groups.values())
    held = {(claim.uid, share) for portion in portions for claim, share in portion.shares}
    unused = tuple((c, s) for c in claims.values() for s in c.shares if (c.uid, s) not in held)
    problem = _overlap(portions) or _together(portions, tuple((use.container, use.stage) for use in uses))
    return Division(portions, unused, problem or _same_card(portions) or _one_instance(portions))


def grant_of(division: Division, cards: Mapping[str, Card], vendor: str) -> Grant:
    """The division as a grant. A whole card of which nothing is known counts no memory.

    A MIG instance that its card does not know counts as the whole card.

    What cannot be kept is held by no container, yet held.
    """
    kept = () if division.problem else division.portions
    given = [(name, portion.shares) for portion in kept for name in portion.containers]
    lost = () if kept else tuple(pair for portion in division.portions for pair in portion.shares)
    unused = dict.fromkeys((*division.unused, *lost))
    given += [(f"{UNUSED}{claim.name}/{i}", ((claim, share),)) for i, (claim, share) in enumerate(unused)]
    return Grant(
        tuple(ContainerGrant(name, tuple(_slice(s, cards, vendor) for _, s in shares)) for name, shares in given)
    )


def holding_of(claim: Claim, cards: Mapping[str, Card], vendor: str) -> Holding:
    """What a claim holds by itself, whichever containers use it: all of it, from the allocation to the end."""
    shares = [share for share in claim.shares if not share.admin]
    parts = (
        ContainerGrant(f"{UNUSED}{claim.name}/{i}", (_slice(share, cards, vendor),)) for i, share in enumerate(shares)
    )
    return Holding(claim.key, claim.uid, claim.node, Grant(tuple(parts)))


def _slice(share: Share, cards: Mapping[str, Card], vendor: str) -> Slice:
    card = cards.get(share.card)
    if share.memory_mib is not None:
        return Slice(share.card, vendor, share.memory_mib, share.cores)
    placed = _placed(share, card, vendor) if card else None
    if placed is not None:
        return placed
    return Slice(share.card, vendor, card.factory_memory_mib if card else 0, 100)


def _placed(share: Share, card: Card, vendor: str) -> Slice | None:
    """A MIG instance as a slice at a place; None for any other share, and for one that the card does not give."""
    number, start = share.partition or (-1, -1)
    plain = card.mig.plain if card.mig else ()
    profile = next((each for each in plain if each.id == number and start in each.starts), None)
    if profile is None:
        return None
    return Slice(share.card, vendor, profile.memory_mib, profile.cores, place_at(start, profile.size).adds)


def _shares(use: ClaimUse, claims: Mapping[str, Claim]) -> tuple[tuple[Claim, Share], ...]:
    found: dict[tuple[str, Share], tuple[Claim, Share]] = {}
    for name, request in use.requests:
        claim = claims.get(name)
        for share in claim.shares if claim else ():
            if claim and request in {"", share.request}:
                found[claim.uid, share] = (claim, share)
    return tuple(found.values())


def _overlap(portions: tuple[Portion, ...]) -> str:
    owner: dict[tuple[str, Share], Portion] = {}
    for portion in portions:
        for claim, share in portion.shares:
            other = owner.setdefault((claim.uid, share), portion)
            if other is not portion:
                return (
                    f"containers {other.containers[0]} and {portion.containers[0]} name request {share.request} of "
                    f"claim {claim.name} beside different others: let them name the same requests, or give each its own"
                )
    return ""


def _together(portions: tuple[Portion, ...], stages: Stages) -> str:
    order = dict(stages)
    for portion in portions:
        running: list[str] = []
        for name in (name for name in order if name in portion.containers):
            if running:
                return (
                    f"containers {running[0]} and {name} run together and name request "
                    f"{portion.shares[0][1].request} of claim {portion.shares[0][0].name}: a slice belongs to one "
                    "container, so give each a claim or a request of its own"
                )
            if order[name] is not Stage.INIT:
                running.append(name)
    return ""


def _same_card(portions: tuple[Portion, ...]) -> str:
    for portion in portions:
        seen: dict[str, tuple[Claim, Share]] = {}
        for claim, share in portion.shares:
            other = seen.setdefault(share.card, (claim, share))
            if other != (claim, share):
                return (
                    f"container {portion.containers[0]} got two slices of card {share.card} (requests "
                    f"{other[1].request} and {share.request}): ask for them by one request with a count, or add the "
                    "constraint distinctAttribute: gpu.kerf.dev/uuid to the claim"
                )
    return ""


def _one_instance(portions: tuple[Portion, ...]) -> str:
    for portion in portions:
        claim, share = next(((c, s) for c, s in portion.shares if s.partition), portion.shares[0])
        if share.partition and len(portion.shares) > 1:
            return (
                f"container {portion.containers[0]} got a MIG instance (request {share.request} of claim {claim.name}) "
                "beside another device: a program uses one MIG instance, so ask for one"
            )
    return ""
