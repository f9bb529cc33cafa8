"""What the planner is asked and what it answers, as values; how pods fold into classes."""

from dataclasses import dataclass, field

from kerf.values.ask import PodAsk
from kerf.values.grant import Grant, Holding
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Bound
from kerf.values.traits import Scope
from scheduler.core.preference import prefer, wished
from scheduler.core.state import NodeState


@dataclass(frozen=True, slots=True)
class Movable:
    """A running pod that may be evicted and created again elsewhere.

    `pdb` names the PodDisruptionBudgets that cover it, `cost` is what moving it costs (1 or more, any unit).
    """

    holding: Holding
    ask: PodAsk
    pdb: tuple[str, ...] = ()
    cost: int = 1


@dataclass(frozen=True, slots=True)
class QuotaRoom:
    """What the pods of some namespaces may still take together, beside what they hold already.

    `left` goes by class of cards (slug) for a tenant's quota: a class that is not listed has no room. For a
    ResourceQuota it goes by vendor (`by_vendor`): a vendor that is not listed has no limit.
    """

    owner: str
    """Whose limit it is, for sentences: "tenant team" or "namespace team"."""
    namespaces: tuple[str, ...]
    left: tuple[tuple[str, Bound], ...]
    by_vendor: bool = False
    scopes: tuple[Scope, ...] = ()
    """Which pods of the namespaces count; empty is all."""

    def covers(self, ask: PodAsk) -> bool:
        """Whether the pod draws on it."""
        return ask.namespace in self.namespaces and all(scope.takes(ask.traits) for scope in self.scopes)

    def bound(self, name: str) -> Bound:
        """What is left of a class or a vendor."""
        return dict(self.left).get(name, Bound() if self.by_vendor else Bound(0, 0, 0))


@dataclass(frozen=True, slots=True)
class Problem:
    """A frozen picture of what waits and what is free.

    `asks` come oldest first, each with its own uid; priority goes before age. A gang's members that want no card
    belong among them: they count towards its size.
    `running` counts the bound members of gangs; `offered` names, by pod uid, the nodes kube-scheduler allows
    (a pod that is not listed may go anywhere); `budgets` says how many evictions each PodDisruptionBudget allows now
    (a budget that is not listed allows none). `quotas` limits what the pods of some namespaces take together.
    """

    nodes: tuple[NodeState, ...]
    asks: tuple[PodAsk, ...]
    policy: SchedulingPolicy = field(default_factory=SchedulingPolicy)
    movable: tuple[Movable, ...] = ()
    running: tuple[tuple[str, int], ...] = ()
    offered: tuple[tuple[str, frozenset[str]], ...] = ()
    budgets: tuple[tuple[str, int], ...] = ()
    quotas: tuple[QuotaRoom, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """One pod's place in a plan."""

    pod_uid: str
    pod_key: str
    node: str
    grant: Grant


Score = tuple[int, ...]
"""Pods placed per priority, highest first; then whole gangs; then minus the empty cards opened. Larger is better."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where pods should go. `unplaced` lists the uids of the others, in the order of the asks.

    `objective` and `bound` are the score and the best score that was not excluded, folded into one integer each;
    `gap` is (bound - objective) / objective. `status` is what the solver says: `optimal` is proven, `feasible` is not.
    `rejected` says which rule the solver's answer broke, where the checker threw it away.
    """

    assignments: tuple[Assignment, ...]
    unplaced: tuple[str, ...]
    score: Score = ()
    objective: int = 0
    bound: int = 0
    gap: float = 0.0
    status: str = "greedy"
    adopted: str = "greedy"
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A running pod that is deleted and created again at another place, which is free at that moment."""

    pod: str
    """`namespace/name`."""
    uid: str
    from_node: str
    to_node: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Repack:
    """Moves in the order in which each one fits, the ids of the cards they empty, and where the target goes then.

    `status`: `fits` (no move is needed), `optimal` (proven the cheapest of those whose new places are free from the
    start), `feasible`, `greedy` (cards were emptied without a target), `impossible` (proven), `unknown`. Without
    `placed` the target stays where it is. `cost` is the sum of the moved pods' costs.
    """

    moves: tuple[Move, ...] = ()
    frees: tuple[str, ...] = ()
    placed: tuple[Assignment, ...] = ()
    cost: int = 0
    status: str = "unknown"
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class GangNeed:
    """A gang's pending members and how many of them must start together: none, or `least` and more."""

    name: str
    members: tuple[PodAsk, ...]
    least: int

    @property
    def hopeless(self) -> bool:
        """Whether too few members wait for any of them to start."""
        return len(self.members) < self.least


@dataclass(frozen=True, slots=True)
class PodClass:
    """Pods that fit in the same places: equal shape, nodes on offer and quotas. `ask` stands for all of them."""

    ask: PodAsk
    members: tuple[PodAsk, ...]
    nodes: frozenset[str] | None = None
    mutex: bool = False
    """Whether its slices share no card."""
    joined: bool = False
    """Whether its cards must be linked."""

    @property
    def sliced(self) -> bool:
        """Whether rows per card describe the class exactly: one container asks, and not for linked cards."""
        return len(self.ask.containers) == 1 and not (self.joined and self.ask.containers[0].cards > 1)

    @property
    def exact(self) -> bool:
        """Whether the model offers a pod of the class every place there is."""
        return self.sliced or not self.ask.containers


def in_order(problem: Problem) -> tuple[PodAsk, ...]:
    """The asks as they are served: highest priority first, then as given."""
    return tuple(sorted(problem.asks, key=lambda ask: -ask.priority))


def pod_classes(problem: Problem) -> tuple[PodClass, ...]:
    """The pending pods folded into classes, in the order in which each class is first served."""
    offered = dict(problem.offered)
    members: dict[tuple[object, ...], list[PodAsk]] = {}
    for ask in in_order(problem):
        key = (ask.shape, offered.get(ask.uid), rooms_of(problem.quotas, ask))
        members.setdefault(key, []).append(ask)
    return tuple(pod_class(tuple(asks), problem.policy, offered.get(asks[0].uid)) for asks in members.values())


def rooms_of(quotas: tuple[QuotaRoom, ...], ask: PodAsk) -> tuple[int, ...]:
    """The positions of the rooms that a pod draws on."""
    return tuple(i for i, room in enumerate(quotas) if room.covers(ask))


def pod_class(members: tuple[PodAsk, ...], policy: SchedulingPolicy, nodes: frozenset[str] | None = None) -> PodClass:
    """A class of pods of equal shape."""
    preference = prefer(*wished(members[0], policy))
    return PodClass(members[0], members, nodes, preference.mutex, preference.topology)


def gang_needs(problem: Problem) -> tuple[GangNeed, ...]:
    """The gangs among the pending pods, in the order in which each is first served.

    A gang whose size is not known starts with every member that waits. Members that already run count. A gang
    that runs in full already needs nobody: what still waits of it are ordinary pods, `least` is 0.
    """
    running = dict(problem.running)
    members: dict[str, list[PodAsk]] = {}
    for ask in in_order(problem):
        if ask.gang is not None:
            members.setdefault(ask.gang, []).append(ask)
    return tuple(
        GangNeed(name, tuple(asks), _least(max(ask.gang_size for ask in asks), len(asks), running.get(name, 0)))
        for name, asks in members.items()
    )


def _least(size: int, waiting: int, running: int) -> int:
    return max(0, size - running) if size else waiting


def score_of(problem: Problem, assignments: tuple[Assignment, ...]) -> Score:
    """What a set of assignments is worth."""
    placed = {assignment.pod_uid for assignment in assignments}
    levels = sorted({ask.priority for ask in problem.asks}, reverse=True)
    per_level = tuple(sum(ask.uid in placed for ask in problem.asks if ask.priority == level) for level in levels)
    whole = sum(any(ask.uid in placed for ask in gang.members) for gang in gang_needs(problem) if gang.least)
    empty = {state.card.id for node in problem.nodes for state in node.cards if state.used.slots == 0}
    opened = {
        piece.card
        for assignment in assignments
        for container in assignment.grant.containers
        for piece in container.slices
        if piece.card in empty
    }
    return (*per_level, whole, -len(opened))


def tier_sizes(problem: Problem) -> tuple[int, ...]:
    """The largest magnitude each number of a score can have."""
    levels = sorted({ask.priority for ask in problem.asks}, reverse=True)
    counts = (sum(ask.priority == level for ask in problem.asks) for level in levels)
    return (*counts, len(gang_needs(problem)), sum(len(node.cards) for node in problem.nodes))


def weights_of(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Integers that fold numbers of at most these magnitudes into one whose order is that of their tuples."""
    weights = [1]
    for size in reversed(sizes[1:]):
        weights.append(weights[-1] * (size + 1))
    return tuple(reversed(weights))


def tier_weights(problem: Problem) -> tuple[int, ...]:
    """The weights that fold a score of this problem."""
    return weights_of(tier_sizes(problem))


def fold(score: Score, weights: tuple[int, ...]) -> int:
    """The score as one number."""
    return sum(value * weight for value, weight in zip(score, weights, strict=True))


def rank_plan(problem: Problem, assignments: tuple[Assignment, ...], adopted: str) -> Plan:
    """A plan of these assignments with its score; nothing is known of its bound."""
    placed = {assignment.pod_uid for assignment in assignments}
    score = score_of(problem, assignments)
    objective = fold(score, tier_weights(problem))
    return Plan(
        assignments=tuple(sorted(assignments, key=lambda assignment: (assignment.pod_key, assignment.pod_uid))),
        unplaced=tuple(ask.uid for ask in problem.asks if ask.uid not in placed),
        score=score,
        objective=objective,
        bound=objective,
        adopted=adopted,
    )
