"""What claims hold for quota: what the watch has seen, and what was let through and may take effect yet.

kube-scheduler allocates a claim by one write. Before the API server stores it, the webhook asks: that is an *attempt*,
made on one version of the claim, and it takes effect on this version or never. So an attempt is over once the claim is
seen in a later version, or not to exist. Until then quota counts the most of what the claim may turn out to hold. The
caller holds the lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kerf.values.claim import Claim, holding_of
from kerf.values.node import Node
from kerf.values.vendor import Vendor
from kerf.values.verdict import Misfit
from scheduler.state.counted import Counted, peak_of
from scheduler.state.members import Members
from scheduler.state.quotas import QuotaLedger


@dataclass(frozen=True, slots=True)
class Attempt:
    """Allocations that were let through on one version of a claim, and when the last of them was (monotonic)."""

    based_on: int
    claims: tuple[Claim, ...]
    since: float


@dataclass(frozen=True, slots=True)
class _Entry:
    """A claim as it was last seen, and what may have happened to it since."""

    seen: Claim | None = None
    version: int = 0
    attempts: Mapping[int, Attempt] = field(default_factory=dict)

    @property
    def possible(self) -> tuple[Claim, ...]:
        """What it may hold: one of these."""
        seen = (self.seen,) if self.seen is not None and self.seen.shares else ()
        return (*seen, *(claim for attempt in self.attempts.values() for claim in attempt.claims))


class Claimed:
    """Counts claims in the quota ledger, by uid."""

    def __init__(self, quotas: QuotaLedger, nodes: Mapping[str, Node], vendors: tuple[Vendor, ...]) -> None:
        self._quotas = quotas
        self._nodes = nodes
        self._vendor = vendors[0].name if vendors else ""
        self._entries: dict[str, _Entry] = {}
        self._on_node = Members()
        """Claims by every node on which they may hold something."""

    # ---- before
    def attempt(self, claim: Claim, based_on: int, now: float, *, keep: bool) -> Misfit | None:
        """Whether quota has no room for what a claim is about to hold. What it has room for counts from now on."""
        entry = self._entries.get(claim.uid, _Entry())
        if based_on < entry.version:
            return None  # it cannot take effect: the claim has changed since
        known = entry.attempts.get(based_on)
        claims = known.claims if known else ()
        if claim not in claims:
            after = replace(entry, attempts={**entry.attempts, based_on: Attempt(based_on, (*claims, claim), now)})
            counted = self._counted(after)
            refused = self._quotas.refuses_claim(claim.uid, counted) if counted else None
            if refused is not None:
                return refused
            claims = (*claims, claim)
        if keep:
            attempts = {**entry.attempts, based_on: Attempt(based_on, claims, now)}
            self._put(claim.uid, replace(entry, attempts=attempts))
        return None

    # ---- after
    def see(self, claim: Claim, version: int) -> bool:
        """A claim as it is in a version; whether anything of it was or is counted.

        A version that is older than one that was seen says nothing.
        """
        known = self._entries.get(claim.uid)
        if known is None and not claim.shares:
            return False
        entry = known or _Entry()
        if version >= entry.version:
            later = {number: each for number, each in entry.attempts.items() if number >= version}
            self._put(claim.uid, _Entry(claim, version, later))
        return True

    def settle(self, claim: Claim, version: int) -> None:
        """A claim as it was read, which may have been deleted since: no-op unless something of it is counted."""
        if claim.uid in self._entries:
            self.see(claim, version)

    def forget(self, uid: str) -> bool:
        """The claim is gone, and nothing that was let through can take effect; whether anything was counted."""
        if self._entries.pop(uid, None) is None:
            return False
        self._on_node.put(uid, ())
        self._quotas.hold(uid, None)
        return True

    def keep_only(self, uids: frozenset[str]) -> None:
        """All other claims are not seen any more. What was let through of them may be newer than the list."""
        for uid in [uid for uid in self._entries if uid not in uids]:
            self._put(uid, replace(self._entries[uid], seen=None))

    def give_up(self, uid: str, based_on: int) -> None:
        """What was let through on this version never took effect."""
        entry = self._entries.get(uid)
        if entry is not None:
            rest = {number: each for number, each in entry.attempts.items() if number != based_on}
            self._put(uid, replace(entry, attempts=rest))

    def attempts_before(self, moment: float) -> list[tuple[Claim, Attempt]]:
        """What was let through before a monotonic time and is not decided yet."""
        found = (attempt for entry in self._entries.values() for attempt in entry.attempts.values())
        return [(attempt.claims[0], attempt) for attempt in found if attempt.since < moment]

    def recount(self, node: str | None = None) -> None:
        """Count claims again, after the first quota appears, or those of a node after its cards changed."""
        for uid in self._entries if node is None else self._on_node.of(node):
            self._count(uid, self._entries[uid])

    # ---- inside
    def _put(self, uid: str, entry: _Entry) -> None:
        if entry.possible:
            self._entries[uid] = entry
            self._on_node.put(uid, {claim.node for claim in entry.possible})
            self._count(uid, entry)
        else:
            self.forget(uid)

    def _count(self, uid: str, entry: _Entry) -> None:
        pods = {pod for claim in entry.possible for _, pod in claim.consumers}
        self._quotas.hold(uid, self._counted(entry), pods)

    def _counted(self, entry: _Entry) -> Counted | None:
        return peak_of(self._count_one(claim) for claim in entry.possible)

    def _count_one(self, claim: Claim) -> Counted:
        node = self._nodes.get(claim.node)
        cards = {card.id: card for card in node.cards} if node else {}
        return self._quotas.cards.count(holding_of(claim, cards, self._vendor), None)
