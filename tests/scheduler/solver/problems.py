"""Small problems for the planner's tests: builders, Hypothesis strategies, and an exhaustive search."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_pod_ask, an_ask
from kerf.values.ask import PodAsk, Selection, Stage
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice
from kerf.values.quota import Bound, class_of
from kerf.values.slicing import ANY_SIZE, Partitions, Size, Templates, WholeCard
from scheduler.core.state import CardState, NodeState
from scheduler.solver.problem import Assignment, Problem, QuotaRoom, Score, score_of
from tests.scheduler.fleets import given

IDLE = CardUse()
H100, T4 = (class_of(a_card(model=model)).slug for model in ("NVIDIA H100 80GB HBM3", "Tesla T4"))
FULL = CardUse(80_000, 100, 10)


def a_state(index=0, node="n1", used=IDLE, *, usable=True, **changes) -> CardState:
    """A card of 80,000 MiB."""
    fields = {"id": f"GPU-{node}-{index}", "memory_mib": 80_000, "numa": index // 2}
    return CardState(a_card(index, **{**fields, **changes}), used, usable)


def a_node_state(name="n1", cards=2, used=(), cpu=64_000, memory=512_000, **changes) -> NodeState:
    """A node of empty cards but for `used`, which is given card by card."""
    held = [*used, *[IDLE] * (cards - len(used))]
    states = tuple(a_state(i, name, use, **changes) for i, use in enumerate(held))
    return NodeState(name, states, cpu, memory)


def pods(count, *asks, prefix="pod", **changes) -> tuple[PodAsk, ...]:
    """Equal pods."""
    return tuple(a_pod_ask(f"{prefix}-{i}", *asks, **changes) for i in range(count))


def a_gang(name, count, *asks, size=None, **changes) -> tuple[PodAsk, ...]:
    """Equal pods that run all or nothing."""
    size = count if size is None else size
    return pods(count, *asks, prefix=name, gang=f"default/{name}", gang_size=size, **changes)


SLICINGS = (ANY_SIZE, ANY_SIZE, Templates((Size(16_000, 20), Size(40_000, 50))), Partitions(4), WholeCard())
uses = st.one_of(
    st.just(IDLE),
    st.just(FULL),
    st.builds(CardUse, st.sampled_from((8_000, 24_000, 56_000)), st.sampled_from((0, 30, 60, 100)), st.integers(1, 4)),
)


@st.composite
def node_states(draw, name="n1", most=4):
    count = draw(st.integers(1, most))
    node = a_node_state(
        name,
        count,
        [draw(uses) for _ in range(count)],
        cpu=draw(st.sampled_from((0, 8_000, 16_000, 64_000))),
        memory=draw(st.sampled_from((4_000, 512_000))),
        slots=draw(st.sampled_from((2, 10))),
        cores=draw(st.sampled_from((100, 100, 100, 200))),
        model=draw(st.sampled_from(("NVIDIA H100 80GB HBM3", "Tesla T4"))),
        slicing=draw(st.sampled_from(SLICINGS)),
    )
    if count > 2 and draw(st.booleans()):  # cards of two models
        *first, last = node.cards
        node = replace(node, cards=(*first, replace(last, card=replace(last.card, model="Tesla T4"))))
    broken = draw(st.sampled_from((None, None, None, 0)))
    if broken is None:
        return node
    return replace(node, cards=(replace(node.cards[0], usable=False), *node.cards[1:]))


@st.composite
def container_asks(draw, most_cards=3):
    percent = draw(st.booleans())
    size = {"memory_percent": draw(st.sampled_from((20, 50, 100)))} if percent else {}
    if not percent:
        size = {"memory_mib": draw(st.sampled_from((8_000, 24_000, 40_000, 80_000)))}
    return an_ask(cards=draw(st.integers(1, most_cards)), cores=draw(st.sampled_from((0, 30, 60, 100))), **size)


selections = st.sampled_from(
    (
        Selection(),
        Selection(),
        Selection(),
        Selection(same_numa=True),
        Selection(same_model=True),
        Selection(use_types=("t4",)),
        Selection(avoid_types=("t4",)),
        Selection(avoid_ids=("GPU-n1-0",)),
        Selection(use_ids=("GPU-n1-0", "GPU-n2-1")),
    )
)


@st.composite
def pod_shapes(draw, most_cards=3, several=True):
    """What decides where a pod fits, as keyword arguments and containers."""
    asks = [draw(container_asks(most_cards))]
    if several and draw(st.sampled_from((False, False, False, True))):
        second = draw(container_asks(1))
        asks.append(replace(second, name="second", stage=draw(st.sampled_from((Stage.APP, Stage.SIDECAR)))))
        asks.sort(key=lambda ask: ask.stage is Stage.APP)
    fields = {
        "selection": draw(selections),
        "cpu_milli": draw(st.sampled_from((0, 4_000, 8_000))),
        "memory_mib": draw(st.sampled_from((0, 3_000))),
    }
    return tuple(asks), fields


bounds = st.builds(
    Bound,
    memory_mib=st.sampled_from((None, None, 0, 24_000, 80_000, 160_000)),
    cores=st.sampled_from((None, None, 60, 200)),
    cards=st.sampled_from((None, None, 0, 1, 2)),
)


@st.composite
def quota_rooms(draw):
    """Mostly none; else a tenant that owns one namespace, a ResourceQuota on the other, or both."""
    tenant = QuotaRoom("tenant team", ("default",), ((H100, draw(bounds)), *[(T4, draw(bounds))] * draw(st.booleans())))
    hard = QuotaRoom("namespace other", ("other",), (("nvidia", draw(bounds)),), by_vendor=True)
    return draw(st.sampled_from(((), (), (tenant,), (hard,), (tenant, hard))))


@st.composite
def problems(draw, most_nodes=3, most_pods=8, most_cards=4, several=True):
    """A handful of nodes, a handful of pods of few shapes, some of them in gangs, of up to three priorities."""
    nodes = [draw(node_states(f"n{i + 1}", most_cards)) for i in range(draw(st.integers(1, most_nodes)))]
    shapes = draw(st.lists(pod_shapes(most_cards - 1, several), min_size=1, max_size=3))
    gangs = draw(st.lists(st.integers(1, 4), max_size=2))
    asks = []
    for i in range(draw(st.integers(1, most_pods))):
        containers, fields = draw(st.sampled_from(shapes))
        gang = draw(st.sampled_from((None, None, *range(len(gangs)))))
        group = {} if gang is None else {"gang": f"default/g{gang}", "gang_size": gangs[gang]}
        priority = draw(st.sampled_from((0, 0, 100, -5)))
        namespace = draw(st.sampled_from(("default", "default", "other")))
        ask = a_pod_ask(f"pod-{i}", *containers, namespace=namespace, priority=priority, **fields, **group)
        asks.append(ask)
    running = tuple((f"default/g{i}", draw(st.integers(0, 1))) for i in range(len(gangs)))
    return Problem(tuple(nodes), tuple(asks), running=running, quotas=draw(quota_rooms()))


def best_score(problem: Problem) -> Score:
    """The best score by trying everything. For pods of one container and at most a handful of cards."""
    books = _Books(problem)
    return max(score_of(problem, chosen) for chosen in books.outcomes(0, ()) if books.whole(chosen))


class _Books:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.free = {n.name: [n.free_cpu_milli, n.free_memory_mib] for n in problem.nodes}
        self.left = {s.card.id: [s.free.memory_mib, s.free.cores, s.free.slots] for n in problem.nodes for s in n.cards}
        self.shared = {s.card.id: s.used.slots > 0 for n in problem.nodes for s in n.cards}
        self.alone: set[str] = set()
        self.guests: dict[str, int] = dict.fromkeys(self.left, 0)

    def outcomes(self, i: int, chosen: tuple[Assignment, ...]) -> Iterator[tuple[Assignment, ...]]:
        if i == len(self.problem.asks):
            yield chosen
            return
        yield from self.outcomes(i + 1, chosen)
        ask = self.problem.asks[i]
        for node in self.problem.nodes:
            for states in combinations(node.cards, ask.containers[0].cards):
                if self._take(ask, node, states):
                    grant = Grant((ContainerGrant("main", tuple(_slice(ask, state) for state in states)),))
                    yield from self.outcomes(i + 1, (*chosen, Assignment(ask.uid, ask.key, node.name, grant)))
                    self._count(ask, node, states, -1)

    def whole(self, chosen: tuple[Assignment, ...]) -> bool:
        placed = {a.pod_uid for a in chosen}
        for gang in {ask.gang for ask in self.problem.asks if ask.gang}:
            members = [ask for ask in self.problem.asks if ask.gang == gang]
            started = sum(ask.uid in placed for ask in members)
            if 0 < started < members[0].gang_size - dict(self.problem.running).get(gang, 0):
                return False
        return all(self._within(room, chosen) for room in self.problem.quotas)

    def _within(self, room, chosen: tuple[Assignment, ...]) -> bool:
        cards = {s.card.id: s.card for n in self.problem.nodes for s in n.cards}
        taken: dict[str, list[int]] = {}
        for a in chosen:
            for piece in a.grant.of("main") if a.pod_key.split("/")[0] in room.namespaces else ():
                name = "nvidia" if room.by_vendor else class_of(cards[piece.card]).slug
                held = taken.setdefault(name, [0, 0, 0])
                held[:] = held[0] + piece.memory_mib, held[1] + piece.cores, held[2] + 1
        return not any(
            limit is not None and amount > limit
            for name, held in taken.items()
            for limit, amount in zip(_limits(room, name), held, strict=True)
        )

    def _take(self, ask, node, states) -> bool:
        if self.free[node.name][0] < ask.cpu_milli or self.free[node.name][1] < ask.memory_mib:
            return False
        numas = {state.card.numa for state in states}
        if ask.selection.same_model and len({state.card.model for state in states}) > 1:
            return False
        if ask.selection.same_numa and len(numas) > 1:
            return False
        if not all(self._fits(ask, state) for state in states):
            return False
        self._count(ask, node, states, 1)
        return True

    def _fits(self, ask, state) -> bool:
        card, choice = state.card, ask.selection
        mib, cores, slots = self.left[card.id]
        size = given(ask.containers[0], card)
        alone = size is not None and size[1] == 100 and card.cores == 100
        return (
            size is not None
            and state.usable
            and size[0] <= mib
            and size[1] <= cores
            and slots >= 1
            and not (alone and (self.shared[card.id] or self.guests[card.id]))
            and card.id not in self.alone
            and not (size[1] == 0 and state.used.cores >= card.cores)
            and (not choice.use_ids or card.id in choice.use_ids)
            and card.id not in choice.avoid_ids
            and (not choice.use_types or "T4" in card.model)
            and not (choice.avoid_types and "T4" in card.model)
        )

    def _count(self, ask, node, states, sign) -> None:
        self.free[node.name][0] -= sign * ask.cpu_milli
        self.free[node.name][1] -= sign * ask.memory_mib
        for state in states:
            piece = _slice(ask, state)
            left = self.left[state.card.id]
            left[:] = left[0] - sign * piece.memory_mib, left[1] - sign * piece.cores, left[2] - sign
            self.guests[state.card.id] += sign
            if piece.cores == 100 and state.card.cores == 100:
                (self.alone.add if sign > 0 else self.alone.discard)(state.card.id)


def _limits(room: QuotaRoom, name: str) -> tuple[int | None, int | None, int | None]:
    bound = room.bound(name)
    return bound.memory_mib, bound.cores, bound.cards


def _slice(ask: PodAsk, state: CardState) -> Slice:
    memory, cores = given(ask.containers[0], state.card) or (0, 0)
    return Slice(state.card.id, "nvidia", memory, cores)
