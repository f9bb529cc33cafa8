"""What Kubernetes' own scheduler allocates to claims: asked before it is stored, seen afterwards. Counted by quota."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from kerf.values.claim import Claim
from scheduler.state.claimed import Attempt
from scheduler.state.live import Live
from scheduler.state.turns import owners


class Allocations:
    """Safe from several threads."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._waiting: Callable[[], Mapping[str, int]] = dict

    def follow(self, waiting: Callable[[], Mapping[str, int]]) -> None:
        """Who knows how many pods of each namespace wait for devices. It is asked without the lock."""
        self._waiting = waiting

    def refusal(self, claim: Claim, based_on: int, *, keep: bool = True) -> str:
        """Why quota has no room for what a claim is about to hold; empty where it has, and counts it from now on.

        The write takes effect on version `based_on` of the claim, or never. Without `keep` it leaves no trace.
        """
        live = self._live
        with live.lock:
            misfit = live.claimed.attempt(claim, based_on, live.clock(), keep=keep)
        return misfit.detail if misfit is not None else ""

    def see(self, claim: Claim, version: int) -> None:
        """A claim as the watch shows it."""
        with self._live.lock:
            concerns = self._live.claimed.see(claim, version)
        if concerns:
            self._live.changed.set()

    def settle(self, claim: Claim, version: int) -> None:
        """A claim as it was read beside the watch."""
        with self._live.lock:
            self._live.claimed.settle(claim, version)

    def forget(self, uid: str) -> None:
        """A claim that does not exist any more."""
        with self._live.lock:
            concerns = self._live.claimed.forget(uid)
        if concerns:
            self._live.changed.set()

    def replace(self, claims: Iterable[tuple[Claim, int]]) -> None:
        """The whole list of claims, each with its version."""
        listed = list(claims)
        with self._live.lock:
            self._live.claimed.keep_only(frozenset(claim.uid for claim, _ in listed))
            for claim, version in listed:
                self._live.claimed.see(claim, version)
        self._live.changed.set()

    def give_up(self, uid: str, based_on: int) -> None:
        """What was let through on a version of a claim never took effect."""
        with self._live.lock:
            self._live.claimed.give_up(uid, based_on)
        self._live.changed.set()

    def attempts_before(self, moment: float) -> list[tuple[Claim, Attempt]]:
        """What was let through before a monotonic time, and of which the watch has not shown what came of it."""
        with self._live.lock:
            return self._live.claimed.attempts_before(moment)

    def unmet(self, namespace: str) -> str:
        """Who borrows while a tenant whose claims wait holds less than it is guaranteed; empty where nobody does."""
        with self._live.lock:
            owner, borrowers = self._unmet(namespace)
        if not borrowers:
            return ""
        return (
            f"tenant {owner} holds less than it is guaranteed, and {owners(borrowers)} more. Kerf evicts nobody for a "
            "claim: end pods of theirs, or ask by extended resources (nvidia.com/gpumem)"
        )

    def unmet_pods(self) -> dict[str, int]:
        """By tenant, the pods that wait for devices while it holds less than it is guaranteed and others more."""
        found: Counter[str] = Counter()
        for namespace, count in self._waiting().items():
            with self._live.lock:
                owner, borrowers = self._unmet(namespace)
            if borrowers:
                found[owner] += count
        return dict(found)

    def _unmet(self, namespace: str) -> tuple[str, list[str]]:
        """The tenant of a namespace, and who borrows while it holds less than it is guaranteed. With the lock."""
        live = self._live
        owner = live.quotas.owner(namespace)
        below = bool(owner) and live.quotas.standing(owner).is_below
        return owner, live.turns.borrowers(namespace) if below else []

    def bounds(self, namespace: str) -> bool:
        """Whether any quota limits a namespace."""
        with self._live.lock:
            return self._live.quotas.bounds(namespace)
