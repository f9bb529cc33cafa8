"""Five rule books, one rule: what `core.fit` says of a slice and a card, every other book says too.

They stay apart, because the checker's independence and the arrays' speed are worth it; here they are tied together.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.core.check import LivePod, check_start
from kerf.testing.builders import a_node, a_pod, cards_of
from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stage, Wishes
from kerf.values.device import Mode
from kerf.values.grant import ContainerGrant, Grant, Holding, Slice
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import CardClass
from kerf.values.slicing import size_on
from kerf.values.verdict import FIT
from kerf.vendors.registry import VENDORS
from kerf.wire.quota import parse_tenant
from scheduler.core.fit import accepts, fit
from scheduler.core.place import place
from scheduler.core.state import CardState, NodeState
from scheduler.quota.capacity import capacity
from scheduler.quota.shares import divide
from scheduler.solver.check import broken_rules
from scheduler.solver.draft import Draft
from scheduler.solver.greedy import plan_greedy
from scheduler.solver.joint import solved
from scheduler.solver.problem import Assignment, Problem, pod_class
from scheduler.solver.solve import plan
from scheduler.state.engine import Engine
from scheduler.state.fleet import Fleet
from scheduler.state.store import Store
from tests.effort import examples
from tests.scheduler.fleets import MODELS, cards, uses

POLICY = SchedulingPolicy()
SLUGS = tuple(CardClass("nvidia", model, mode).slug for model in MODELS for mode in (Mode.SHARED, Mode.MPS))


@st.composite
def asks(draw: st.DrawFn) -> PodAsk:
    """A pod with one container on one card, and a selection of every kind."""
    size = draw(st.one_of(st.tuples(st.integers(0, 12), st.none()), st.tuples(st.none(), st.sampled_from((25, 100)))))
    selection = Selection(
        use_ids=draw(st.sampled_from(((), (), ("n-0", "n-2")))),
        avoid_ids=draw(st.sampled_from(((), (), ("n-1",)))),
        use_types=draw(st.sampled_from(((), (), ("t4",)))),
        avoid_types=draw(st.sampled_from(((), (), ("a100",)))),
        modes=draw(st.sampled_from(((), (), ("shared",)))),
        classes=tuple(sorted(draw(st.sets(st.sampled_from(SLUGS), max_size=2)))),
    )
    chain = draw(st.sampled_from(((), ("binpack",), ("mutex",))))
    container = ContainerAsk("main", 1, size[0], size[1], draw(st.sampled_from((0, 20, 50, 100))))
    return PodAsk("default", "p", "u", (container,), selection, Wishes(card_policies=chain))


@st.composite
def nodes(draw: st.DrawFn) -> tuple[NodeState, ...]:
    """A node for each card, so that a book's answer on a node is its answer on the card."""
    held = [CardState(card, draw(uses()), card.healthy and not card.slicing.refusal) for card in draw(cards())]
    return tuple(NodeState(f"node-{i}", (state,), 8, 64) for i, state in enumerate(held))


@settings(max_examples=examples(300))
@given(nodes(), asks())
def test_every_rule_book_says_of_a_slice_on_a_card_what_fit_says(fleet: tuple[NodeState, ...], ask: PodAsk) -> None:
    mutex = "mutex" in ask.wishes.card_policies
    expected = [fit(ask.containers[0], ask.selection, node.cards[0], mutex=mutex) is FIT for node in fleet]

    assert by_place(fleet, ask) == expected
    assert by_arrays(fleet, ask) == expected
    assert by_draft(fleet, ask) == expected
    assert by_greedy(fleet, ask) == expected
    assert by_model(fleet, ask) == expected
    assert by_checker(fleet, ask) == expected
    comparable = [i for i, node in enumerate(fleet) if not mutex and at_device_plugin(node.cards[0], ask)]
    assert [by_device_plugin(fleet[i].cards[0], ask) for i in comparable] == [expected[i] for i in comparable]


def by_place(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    chain = ask.wishes.card_policies or POLICY.cards
    return [isinstance(place(ask, node, chain, POLICY.weights), Grant) for node in fleet]


def by_arrays(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    live = Fleet()
    for node in fleet:
        live.put_node(Node(node.name, (node.cards[0].card,), cpu_milli=8, memory_mib=64))
        live.charge(node.name, {node.cards[0].card.id: node.cards[0].used}, 0, 0)
    rows = live.rows([node.name for node in fleet])
    return Engine(live, POLICY, check_node=True).query(ask, rows).feasible.tolist() if fleet else []


def by_draft(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    draft, klass = Draft(fleet), pod_class((ask,), POLICY)
    return draft.fitting(klass, ask.containers[0])[:, 0].tolist() if fleet else []


def alone_on_offer(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[Problem]:
    return [Problem(fleet, (ask,), POLICY, offered=((ask.uid, frozenset({node.name})),)) for node in fleet]


def by_greedy(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    return [bool(plan_greedy(problem).assignments) for problem in alone_on_offer(fleet, ask)]


def by_model(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    """CP-SAT without greedy's hint and without what greedy adds to its answer."""
    empty = [replace(plan_greedy(problem), assignments=(), score=()) for problem in alone_on_offer(fleet, ask)]
    found = [solved(problem, hint) for problem, hint in zip(alone_on_offer(fleet, ask), empty, strict=True)]
    return [bool(one.assignments) for one in found]


def granted(state: CardState, ask: PodAsk) -> Grant:
    """The grant that the pod would have on the card; what it asks, where the card never gives a slice."""
    container = ask.containers[0]
    size = size_on(container, state.card)
    memory, cores = (size.memory_mib, size.cores) if size else (container.memory_mib or 0, container.cores)
    return Grant((ContainerGrant("main", (Slice(state.card.id, "nvidia", memory, cores),)),))


def by_checker(fleet: tuple[NodeState, ...], ask: PodAsk) -> list[bool]:
    problem = Problem(fleet, (ask,), POLICY)
    places = [Assignment(ask.uid, ask.key, node.name, granted(node.cards[0], ask)) for node in fleet]
    return [broken_rules(problem, (one,)) == () for one in places]


def at_device_plugin(state: CardState, ask: PodAsk) -> bool:
    """Whether the node can judge it: it sees grants, not selections or cordons, and only slices that a card gives."""
    container = ask.containers[0]
    return accepts(ask.selection, container, state.card) and size_on(container, state.card) is not None


def by_device_plugin(state: CardState, ask: PodAsk) -> bool:
    pieces = [Slice(state.card.id, "nvidia", state.used.memory_mib, state.used.cores)]
    pieces += [Slice(state.card.id, "nvidia", 0, 0)] * (state.used.slots - 1)
    held = Grant(tuple(ContainerGrant(f"c{i}", (piece,)) for i, piece in enumerate(pieces[: state.used.slots])))
    before = LivePod(Holding("default/old", "old", "n", held), True, ("0", "0", "old"))
    own = LivePod(Holding(ask.key, ask.uid, "n", granted(state, ask), (("main", Stage.APP),)), False, ("1", "1", "u"))
    return check_start(own, (before,), {state.card.id: state.card}) is None


# ---- quota: the live state and the planner's problem say the same
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.sampled_from((0, 30_000, 90_000)),
        "cores": st.sampled_from((40, 120)),
        "cards": st.integers(0, 3),
    },
)


@st.composite
def tenants(draw: st.DrawFn) -> dict:
    models = draw(st.lists(st.sampled_from(("H100", "A100")), unique=True, min_size=1))
    none = {"memory": 0, "cores": 0, "cards": 0}
    lent = draw(st.sampled_from(({}, {"lendable": none}, {"lendable": {"memory": 20_000}})))
    classes = [{"model": model, "guaranteed": {**draw(LIMITS)} or "1 card", "burst": none, **lent} for model in models]
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": "team"},
        "spec": {"namespaces": ["team", "team-dev"], "classes": classes},
    }


@settings(max_examples=examples(80))
@given(
    tenants(),
    st.lists(st.tuples(st.sampled_from(("h", "a")), st.sampled_from((10_000, 40_000)), st.booleans()), max_size=4),
    st.sampled_from((5_000, 30_000, 60_000)),
    st.sampled_from((0, 40, 100)),
    st.sampled_from(("team", "no-tenant")),
)
def test_the_planner_finds_room_within_quota_exactly_where_a_bind_does(
    tenant: dict, held: list[tuple[str, int, bool]], mib: int, cores: int, namespace: str
) -> None:
    store = Store(POLICY, VENDORS)
    for node in (a_node("h", cards_of("h", 2, model=H100)), a_node("a", cards_of("a", 2, model=A100))):
        store.feed.apply_node("ADDED", node)
    found = capacity(store.desk.nodes(), POLICY)
    store.feed.set_quota(divide([parse_tenant(tenant)], found), found, {})
    for i, (node, memory, dev) in enumerate(held):
        pod = a_pod(f"old-{i}", namespace="team-dev" if dev else namespace, mem=memory, cores=10)
        store.desk.assume(*with_node(store, pod, node))
    pod = a_pod("new", namespace=namespace, mem=mib, cores=cores)
    ask, stages = store.desk.read(pod)

    for node in ("h", "a"):
        problem = store.planning.problem([ask], offered=((ask.uid, frozenset({node})),))
        planned = plan(problem)
        bound = store.desk.assume(ask, node, stages)
        store.ledger.undo(ask.uid)
        assert isinstance(bound, Grant) == bool(planned.assignments)
        if isinstance(bound, Grant):
            assert broken_rules(problem, (Assignment(ask.uid, ask.key, node, bound),)) == ()


def with_node(store: Store, pod: dict, node: str) -> tuple:
    ask, stages = store.desk.read(pod)
    return ask, node, stages
