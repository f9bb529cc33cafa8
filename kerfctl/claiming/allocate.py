"""A model of Kubernetes' own allocator (1.36) for one node: first fit by the list, with backtracking. Pure.

A device of an exclusive kind is skipped while it is in use; then come selectors, amounts, taints, counters and
constraints, as in Kubernetes. `tests/cluster/test_simulated_allocator.py` compares the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kerf.values.cel import Failed, Lacking, Unread
from kerf.values.device_ask import ClaimAsk, Constraint, Selector, Wanted
from kerf.values.selector import selects
from kerf.wire.cel import parse_cel
from kerf.wire.claim_requests import MOST_DEVICES
from kerf.wire.devices import DRIVER
from kerf.wire.json import Json, text_at
from kerfctl.claiming.devices import Amounts, Books, Device, Pool

MOST_STEPS = 20_000
"""Devices that one search looks at. kube-scheduler gives up after 10 s."""


class Ended(Exception):
    """Kubernetes' allocator ends such a claim with an error, whichever node it looks at."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A device for a request of the claim with this number."""

    claim: int
    request: str
    device: Device
    taken: Amounts


def allocate(asks: Sequence[ClaimAsk], pool: Pool, books: Books) -> tuple[Pick, ...] | None:
    """The devices of a pod's claims together; None where the node has no room. Raises Ended, Unread."""
    return _Search(asks, pool, books).run()


@dataclass(slots=True)
class _Search:
    asks: Sequence[ClaimAsk]
    pool: Pool
    before: Books
    everything: dict[tuple[int, str], tuple[Device, ...]] = field(default_factory=dict)
    """By claim and request for all devices, these: Kubernetes looks for them before it picks any device."""
    steps: int = 0
    accepted: dict[tuple[tuple[Selector, ...], str], bool] = field(default_factory=dict)

    def run(self) -> tuple[Pick, ...] | None:
        for claim, ask in enumerate(self.asks):
            for wanted in (each for ways in ask.requests for each in ways if each.all):
                self.everything[claim, wanted.request] = self._all_of(wanted)
            least = sum(min(self._count(claim, each) for each in ways) for ways in ask.requests)
            if least > MOST_DEVICES:
                raise Ended(f"claim {ask.name} would get {least} devices; a claim has at most {MOST_DEVICES}")
        slots = [(i, ways) for i, ask in enumerate(self.asks) for ways in ask.requests]
        return self._requests(slots, self.before, ())

    def _count(self, claim: int, wanted: Wanted) -> int:
        return len(self.everything[claim, wanted.request]) if wanted.all else wanted.count

    def _requests(
        self, slots: list[tuple[int, tuple[Wanted, ...]]], books: Books, picks: tuple[Pick, ...]
    ) -> tuple[Pick, ...] | None:
        if not slots:
            return picks
        (claim, ways), rest = slots[0], slots[1:]
        for wanted in ways:
            devices = self.everything[claim, wanted.request] if wanted.all else self.pool.devices
            count, before = self._count(claim, wanted), sum(pick.claim == claim for pick in picks)
            if count and before + count <= MOST_DEVICES:
                found = self._devices(_Turn(claim, wanted, devices, count), rest, books, picks)
                if found is not None:
                    return found
        return None

    def _devices(
        self, turn: "_Turn", rest: list[tuple[int, tuple[Wanted, ...]]], books: Books, picks: tuple[Pick, ...]
    ) -> tuple[Pick, ...] | None:
        """One more device for the request whose turn it is: a later one than its last, so none comes twice."""
        if turn.left == 0:
            return self._requests(rest, books, picks)
        for index in range(turn.start, len(turn.devices)):
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Ended(f"{MOST_STEPS:,} combinations of devices were tried: ask for fewer, or by fewer requests")
            device = turn.devices[index]
            taken = self._gives(turn, device, books, picks)
            if taken is None:
                if turn.wanted.all:
                    return None  # without this one it cannot be all, so Kubernetes looks no further
                continue
            pick = Pick(turn.claim, turn.wanted.request, device, taken)
            found = self._devices(turn.after(index), rest, books.with_one(device, taken), (*picks, pick))
            if found is not None:
                return found
        return None

    def _gives(self, turn: "_Turn", device: Device, books: Books, picks: tuple[Pick, ...]) -> Amounts | None:
        """What the request takes of a device, None where it cannot have it. In Kubernetes' order: amounts come last."""
        wanted = turn.wanted
        if device.name in books.whole or not self._accepts(wanted, device):
            return None
        taken = taken_of(wanted, device)
        if taken is None or not books.counters_for(device, self.pool) or not tolerates(wanted, device):
            return None
        if not all(_keeps(constraint, turn, device, picks) for constraint in self.asks[turn.claim].constraints):
            if wanted.all:
                raise Ended(f"request {wanted.request} wants all devices, which its constraints do not allow")
            return None
        return taken if books.amounts_for(device, taken) else None

    def _all_of(self, wanted: Wanted) -> tuple[Device, ...]:
        """All devices that suit the request, before the pod's own claims take any.

        Shared ones without room are passed over, others in use are not.
        """
        found = []
        for device in self.pool.devices:
            taken = taken_of(wanted, device) if self._accepts(wanted, device) else None
            if taken is not None and self.before.amounts_for(device, taken):
                found.append(device)
        return tuple(found)

    def _accepts(self, wanted: Wanted, device: Device) -> bool:
        key = (wanted.selectors, device.name)
        if key not in self.accepted:
            self.accepted[key] = accepts(wanted, device)
        return self.accepted[key]


@dataclass(frozen=True, slots=True)
class _Turn:
    """A request that needs `left` more devices, from `start` on."""

    claim: int
    wanted: Wanted
    devices: tuple[Device, ...]
    left: int
    start: int = 0

    def after(self, index: int) -> "_Turn":
        return _Turn(self.claim, self.wanted, self.devices, self.left - 1, index + 1)


def accepts(wanted: Wanted, device: Device) -> bool:
    """Whether all selectors of a request and its class are true. Raises Ended, Unread."""
    return all(_selects(selector, device) for selector in wanted.selectors)


def taken_of(wanted: Wanted, device: Device) -> Amounts | None:
    """What a request books of a device, whatever is free of it; None where the device never gives it."""
    asked = dict(wanted.amounts)
    if any(name not in device.capacities for name in asked):
        return None
    if not device.shared:
        enough = all(device.capacities[name].value >= amount for name, amount in asked.items())
        return {} if enough else None
    taken: dict[str, Fraction] = {}
    for name, capacity in device.capacities.items():
        amount = capacity.taken_by(asked.get(name))
        if amount is None or amount > capacity.value:
            return None
        taken[name] = amount
    return taken


def _selects(selector: Selector, device: Device) -> bool:
    whose = selector.whose
    try:
        return selects(parse_cel(selector.expression), device.facts)
    except Lacking as error:
        fix = f'write .?{error}.orValue("")'
        raise Ended(f"a selector of {whose} reads {error}, which device {device.name} does not have: {fix}") from error
    except Failed as error:
        raise Ended(f"the selector {selector.expression!r} of {whose} ends in an error: {error}") from error
    except ValueError as error:
        raise Unread(f"the selector {selector.expression!r} of {whose}: {error}") from error


def tolerates(wanted: Wanted, device: Device) -> bool:
    """Whether a request may have a device with these taints."""
    return all(any(_tolerated(each, taint) for each in wanted.tolerations) for taint in device.taints)


def _tolerated(toleration: Json, taint: Json) -> bool:
    effect, key = text_at(toleration, "effect"), text_at(toleration, "key")
    if (effect and effect != taint.get("effect")) or (key and key != taint.get("key")):
        return False
    if (text_at(toleration, "operator") or "Equal") == "Exists":
        return True
    return bool(key) and text_at(toleration, "value") == text_at(taint, "value")


def _keeps(constraint: Constraint, turn: _Turn, device: Device, picks: tuple[Pick, ...]) -> bool:
    """Whether a constraint still holds once the request gets the device."""
    if not constraint.covers(turn.wanted.request):
        return True
    value = _attribute(constraint.attribute, device.attributes)
    if value is None:
        return False
    mine = (pick for pick in picks if pick.claim == turn.claim and constraint.covers(pick.request))
    values = [_attribute(constraint.attribute, pick.device.attributes) for pick in mine]
    return value not in values if constraint.distinct else all(each == value for each in values)


def _attribute(name: str, attributes: Mapping[str, object]) -> object:
    domain, _, short = name.rpartition("/")
    return attributes.get(short) if domain in {"", DRIVER} else None
