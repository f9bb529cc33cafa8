"""Never over quota, whatever order questions, writes, their ends, watches and changes of the leader come in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kerf.testing.builders import a_pod
from kerf.values.grant import Grant
from kerf.wire.claims import parse_claim
from kerf.wire.json import at
from scheduler.state.claims import ClaimingPods
from scheduler.state.store import Store
from tests.scheduler.state.test_counted_claims import MIB, NODE, claim_of
from tests.scheduler.state.test_quotas import a_store, a_tenant, assume

LIMIT = 10_000
NAMES = ("a", "b", "c")
Steps = list[tuple[int, int, int]]


@dataclass
class Cluster:
    """An API server with claims, writes that are under way, a watch that lags, and the scheduler that leads."""

    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name, as stored."""
    let_through: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    """Writes that the scheduler has let through: the claim, and the version on which it takes effect."""
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    pods: dict[str, int] = field(default_factory=dict)
    version: int = 1
    made: int = 0

    def __post_init__(self) -> None:
        self.lead()

    # ---- the scheduler
    def lead(self) -> None:
        """Another process leads: it ends what the last one let through, reads all, and knows nothing else."""
        for name, item in list(self.claims.items()):
            if not at(item, "status", "allocation"):
                self.store_claim(name, item)
        self.events.clear()
        self.store: Store = a_store(a_tenant("team", MIB), nodes=[NODE])[0]
        self.seen = ClaimingPods(self.store, "nvidia")
        self.seen.apply_node("MODIFIED", NODE)
        self.seen.replace_claims(list(self.claims.values()))
        for name, mib in list(self.pods.items()):
            self.pods.pop(name)
            assert self.bind(name, mib), "what was bound is bound"

    def bind(self, name: str, mib: int) -> bool:
        if isinstance(assume(self.store, name, mem=mib, cores=0), Grant):
            self.pods[name] = mib
            return True
        return False

    def ask(self, name: str, mib: int) -> None:
        stored = self.claims.get(name)
        if stored is None or at(stored, "status", "allocation"):
            return
        version, uid = int(stored["metadata"]["resourceVersion"]), stored["metadata"]["uid"]
        wanted = claim_of(name, ("gpu-0", mib, 0), version=version)
        wanted["metadata"]["uid"] = uid
        if not self.store.allocations.refusal(parse_claim(wanted), version):
            self.let_through.append((wanted, version))

    # ---- the API server
    def store_claim(self, name: str, item: dict[str, Any]) -> None:
        self.version += 1
        meta = {**item["metadata"], "resourceVersion": str(self.version)}
        self.claims[name] = {**item, "metadata": meta}
        self.events.append(("MODIFIED", self.claims[name]))

    def create(self, name: str) -> None:
        if name not in self.claims:
            self.made += 1
            item = claim_of(name)
            item["metadata"]["uid"] = f"{name}-{self.made}"
            self.store_claim(name, item)

    def write(self, number: int) -> None:
        """A write arrives; it is stored if the claim is still in the version on which it was made."""
        if not self.let_through:
            return
        wanted, version = self.let_through.pop(number % len(self.let_through))
        name = wanted["metadata"]["name"]
        stored = self.claims.get(name)
        same = stored is not None and stored["metadata"]["uid"] == wanted["metadata"]["uid"]
        if same and stored is not None and int(stored["metadata"]["resourceVersion"]) == version:
            self.store_claim(name, wanted)

    def delete(self, name: str) -> None:
        item = self.claims.pop(name, None)
        if item is not None:
            self.version += 1
            meta = {**item["metadata"], "resourceVersion": str(self.version)}
            self.events.append(("DELETED", {**item, "metadata": meta}))

    def deliver(self) -> None:
        if self.events:
            self.seen.apply_claim(*self.events.pop(0))

    def touch(self, name: str) -> None:
        """A write of kube-scheduler's that allocates nothing, or the end of the claim's use."""
        if name in self.claims:
            self.store_claim(name, {**self.claims[name], "status": {}})

    def lose(self, number: int) -> None:
        """A request ends before it is stored."""
        if self.let_through:
            self.let_through.pop(number % len(self.let_through))

    def end(self, pod: str) -> None:
        if self.pods.pop(pod, None) is not None:
            self.store.feed.apply_pod("DELETED", a_pod(pod, namespace="team"))
            self.store.ledger.undo(f"uid-team-{pod}")

    def step(self, kind: int, which: int, amount: int) -> None:
        name, pod = NAMES[which % len(NAMES)], f"pod-{which}"
        steps: tuple[Callable[[], object], ...] = (
            lambda: self.create(name),
            lambda: self.ask(name, amount),
            lambda: self.write(which),
            self.deliver,
            lambda: pod in self.pods or self.bind(pod, amount),
            lambda: self.end(pod),
            lambda: self.delete(name),
            lambda: self.touch(name),
            lambda: self.lose(which),
            self.lead,
        )
        steps[kind]()

    @property
    def held(self) -> int:
        """What claims hold as stored, and pods."""
        shares = [share for item in self.claims.values() for share in parse_claim(item).shares]
        return sum(share.memory_mib or 0 for share in shares) + sum(self.pods.values())


KINDS = (0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9)
STEP = st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.sampled_from((1, 2500, 4000, 5001, 10_000)))


LATE_WRITE = [(0, 0, 1), (1, 0, 10_000), (9, 0, 1), (4, 0, 10_000), (2, 0, 1)]
"""The last leader let an allocation through; it arrives once another one leads and has bound a pod."""
LATE_EVENT = [(0, 0, 1), (1, 0, 10_000), (3, 0, 1), (4, 0, 10_000), (2, 0, 1)]
"""The watch shows the version on which an allocation was let through after the question about it."""


@given(st.lists(STEP, min_size=20, max_size=40))
@example(LATE_WRITE)
@example(LATE_EVENT)
def test_claims_and_pods_together_never_hold_more_than_the_limit(steps: Steps) -> None:
    cluster = Cluster()

    for step in steps:
        cluster.step(*step)
        assert cluster.held <= LIMIT


@given(st.lists(STEP, min_size=10, max_size=30))
def test_once_all_is_seen_the_books_are_what_is_held(steps: Steps) -> None:
    cluster = Cluster()
    for step in steps:
        cluster.step(*step)
    cluster.let_through.clear()
    while cluster.events:
        cluster.deliver()

    for claim, attempt in cluster.store.allocations.attempts_before(float("inf")):
        cluster.store.allocations.give_up(claim.uid, attempt.based_on)

    assert sum(amount.memory_mib for amount in cluster.store.desk.used()["team"].values()) == cluster.held
