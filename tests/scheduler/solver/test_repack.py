"""Repacking: moves that fit one after the other, respect budgets, and make the room they promise."""

from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_pod_ask, an_ask
from kerf.values.grant import CardUse, ContainerGrant, Grant, Holding, Slice, card_uses
from kerf.values.quota import Bound
from scheduler.solver import repack
from scheduler.solver.check import broken_moves
from scheduler.solver.problem import Movable, Move, Problem, QuotaRoom, Repack
from scheduler.solver.repack import plan_repack
from tests.effort import examples
from tests.scheduler.solver.problems import H100, T4, a_gang, a_node_state

WHOLE = an_ask(memory_percent=100, cores=100)


def running(name, node, *cards, memory_mib=30_000, cores=30, pdb=(), cost=1, cpu=0):
    """A pod that holds slices of the cards with these indices."""
    ask = a_pod_ask(name, an_ask(cards=len(cards), memory_mib=memory_mib, cores=cores), cpu_milli=cpu)
    slices = tuple(Slice(f"GPU-{node}-{card}", "nvidia", memory_mib, cores) for card in cards)
    grant = Grant((ContainerGrant("main", slices),))
    return Movable(Holding(ask.key, ask.uid, node, grant, (("main", ask.containers[0].stage),)), ask, pdb, cost)


def a_problem(*movable, nodes=2, cards=1, cpu=64_000, asks=(), **changes):
    """Nodes n1, n2, … that hold the movable pods."""
    states = {f"n{i + 1}": a_node_state(f"n{i + 1}", cards, cpu=cpu) for i in range(nodes)}
    for each in movable:
        states[each.holding.node] = with_pod(states[each.holding.node], each.ask, each.holding.grant, 1)
    return Problem(tuple(states.values()), tuple(asks), movable=movable, **changes)


def with_pod(node, ask, grant, sign):
    """The node with a pod more or less, counted by hand."""
    uses = card_uses(grant, ())
    held = [replace(s, used=_after(s.used, uses.get(s.card.id, CardUse()), sign)) for s in node.cards]
    return replace(node, cards=tuple(held), free_cpu_milli=node.free_cpu_milli - sign * ask.cpu_milli)


def _after(used, use, sign):
    return used + use if sign > 0 else used - use


def execute(problem, found):
    """Delete and create pod after pod; nothing may ever be over-committed."""
    nodes = {node.name: node for node in problem.nodes}
    asks = {each.holding.uid: each for each in problem.movable}
    for move in found.moves:
        each = asks[move.uid]
        nodes[move.from_node] = with_pod(nodes[move.from_node], each.ask, each.holding.grant, -1)
        nodes[move.to_node] = with_pod(nodes[move.to_node], each.ask, move.grant, 1)
        assert_sound(nodes)
    for place in found.placed:
        ask = next(ask for ask in problem.asks if ask.uid == place.pod_uid)
        nodes[place.node] = with_pod(nodes[place.node], ask, place.grant, 1)
        assert_sound(nodes)
    return nodes


def assert_sound(nodes):
    for node in nodes.values():
        assert node.free_cpu_milli >= 0
        for state in node.cards:
            assert min(state.free.memory_mib, state.free.cores, state.free.slots) >= 0


def moved(found):
    return [(move.pod.removeprefix("default/"), move.from_node, move.to_node) for move in found.moves]


def test_the_least_used_card_is_emptied_onto_the_fuller_one():
    problem = a_problem(running("a", "n1", 0), running("b", "n2", 0), running("c", "n2", 0, memory_mib=5_000))

    found = plan_repack(problem, None, 5)
    assert moved(found) == [("a", "n1", "n2")]
    assert (found.frees, found.cost, found.status) == (("GPU-n1-0",), 1, "greedy")


def test_no_more_moves_than_allowed():
    pods = [running(f"{node}{i}", node, 0, memory_mib=10_000, cores=10) for node in ("n1", "n2") for i in range(3)]
    assert moved(plan_repack(a_problem(*pods), None, 2)) == []
    assert len(moved(plan_repack(a_problem(*pods), None, 3))) == 3


def test_a_card_with_a_pod_that_may_not_move_is_left_alone():
    problem = a_problem(running("a", "n1", 0), running("b", "n2", 0))
    pinned = replace(problem, movable=(problem.movable[1],))
    assert moved(plan_repack(pinned, None, 5)) == [("b", "n2", "n1")]


def test_a_disruption_budget_is_never_exceeded():
    pods = [
        running(f"{node}{i}", node, 0, memory_mib=9_000, cores=10, pdb=("default/web",))
        for node in ("n1", "n2")
        for i in range(2)
    ]
    assert moved(plan_repack(a_problem(*pods, budgets=(("default/web", 1),)), None, 9)) == []
    assert len(moved(plan_repack(a_problem(*pods, budgets=(("default/web", 2),)), None, 9))) == 2
    assert moved(plan_repack(a_problem(*pods), None, 9)) == []


def test_a_target_that_fits_needs_no_move():
    target = a_pod_ask("target", WHOLE)
    found = plan_repack(a_problem(running("a", "n1", 0), asks=(target,)), target, 5)
    assert (found.moves, found.status, found.placed[0].node) == ((), "fits", "n2")


def test_room_is_made_where_it_costs_least():
    target = a_pod_ask("target", WHOLE)
    problem = a_problem(running("dear", "n1", 0, cost=5), running("cheap", "n2", 0, cost=2), asks=(target,))

    found = plan_repack(problem, target, 5)
    assert moved(found) == [("cheap", "n2", "n1")]
    assert (found.frees, found.cost, found.status, found.placed[0].node) == (("GPU-n2-0",), 2, "optimal", "n2")


def test_a_pod_may_leave_even_if_its_node_does_not_list_one_of_its_cards_any_more():
    target = a_pod_ask("target", replace(WHOLE, cards=2))
    problem = a_problem(running("old", "n1", 0, 7), cards=2, asks=(target,))
    shared = a_node_state("n2", 2, (CardUse(10_000, 10, 1),) * 2)

    found = plan_repack(replace(problem, nodes=(problem.nodes[0], shared)), target, 5)

    assert moved(found) == [("old", "n1", "n2")]
    assert (found.status, found.placed[0].node) == ("optimal", "n1")


def test_a_budget_sends_the_move_elsewhere():
    target = a_pod_ask("target", WHOLE)
    pods = (running("dear", "n1", 0, cost=5), running("cheap", "n2", 0, cost=2, pdb=("default/web",)))
    assert moved(plan_repack(a_problem(*pods, asks=(target,)), target, 5)) == [("dear", "n1", "n2")]


def test_room_is_made_for_a_whole_gang_or_not_at_all():
    gang = a_gang("g", 2, WHOLE)
    pods = [running(f"p{i}", f"n{i + 1}", 0, memory_mib=20_000, cores=25) for i in range(3)]
    problem = a_problem(*pods, nodes=3, asks=gang)

    found = plan_repack(problem, gang[0], 5)
    assert len(found.moves) == 2
    assert {place.pod_key for place in found.placed} == {"default/g-0", "default/g-1"}
    assert plan_repack(problem, gang[0], 1) == Repack(status="impossible")
    assert plan_repack(replace(problem, asks=gang[:1]), gang[0], 5).status == "impossible"


def test_cpu_counts_as_room():
    target = a_pod_ask("target", an_ask(), cpu_milli=10_000)
    pods = (running("a", "n1", 0, cpu=8_000), running("b", "n2", 0, cpu=2_000))
    found = plan_repack(a_problem(*pods, cpu=11_000, asks=(target,)), target, 5)
    assert moved(found) == [("b", "n2", "n1")]


def test_pods_that_must_take_over_each_others_places_move_in_turn():
    # x (50) must leave n1, but only once y (40) has left n2 for n3 is there room for it
    target = a_pod_ask("target", an_ask(memory_mib=80_000, cores=20))
    pods = (
        running("x", "n1", 0, memory_mib=50_000),
        running("y", "n2", 0, memory_mib=40_000),
        running("z", "n3", 0, memory_mib=40_000, cost=50),
    )
    found = plan_repack(a_problem(*pods, nodes=3, asks=(target,)), target, 5)
    # cheaper still: y moves beside z and the target takes n2
    assert moved(found) == [("y", "n2", "n3")]
    pinned = a_problem(*pods, nodes=3, asks=(target,), offered=((target.uid, frozenset({"n1"})),))
    assert moved(plan_repack(pinned, target, 5)) == [("y", "n2", "n3"), ("x", "n1", "n2")]
    assert plan_repack(pinned, target, 1).status == "impossible"


def test_moves_and_their_target_stay_within_quota():
    target = a_pod_ask("target", WHOLE)
    pods = (running("dear", "n1", 0, cost=5), running("cheap", "n2", 0, cost=2))
    problem = a_problem(*pods, nodes=3, asks=(target,))
    t4 = replace(problem.nodes[1], cards=a_node_state("n2", 1, model="Tesla T4", used=[CardUse(30_000, 30, 1)]).cards)
    other = a_node_state("n3", 1, [CardUse(50_000, 70, 1)])
    problem = replace(problem, nodes=(problem.nodes[0], t4, other))

    def movers(h100, t4):
        room = QuotaRoom("tenant team", ("default",), ((H100, Bound(cards=h100)), (T4, Bound(cards=t4))))
        return [name for name, _, _ in moved(plan_repack(replace(problem, quotas=(room,)), target, 5))]

    assert movers(1, 1) == ["cheap"]
    assert movers(1, 0) == ["cheap"], "the target takes what the moved pod gave back"
    assert movers(0, 1) == ["dear"], "only beside the cheap one is there room for a moved pod"
    assert movers(0, 0) == [], "a moved pod needs room in the class of its new card"
    assert movers(1, -1) == ["dear"], "a tenant beyond its limit gets nothing more of that class"


def test_moves_that_break_a_rule_are_never_proposed(monkeypatch):
    problem = a_problem(running("a", "n1", 0), running("b", "n2", 0))
    monkeypatch.setattr(repack, "broken_moves", lambda *_: ("n1: more CPU than is free",))
    assert plan_repack(problem, None, 5) == Repack(rejected="n1: more CPU than is free")


def test_the_checker_executes_moves_in_order():
    big = running("big", "n1", 0, memory_mib=60_000)
    small = running("small", "n2", 0, memory_mib=30_000, pdb=("default/web",))
    problem = a_problem(big, small, budgets=(("default/web", 1),))

    def move(each, to):
        slices = (Slice(f"GPU-{to}-0", "nvidia", each.ask.containers[0].memory_mib, 30),)
        grant = Grant((ContainerGrant("main", slices),))
        return Move(each.holding.pod, each.holding.uid, each.holding.node, to, grant)

    assert len(broken_moves(problem, Repack((move(big, "n2"),)), 1)) == 1
    assert len(broken_moves(problem, Repack((move(small, "n1"), move(big, "n2"))), 2)) == 1
    assert broken_moves(problem, Repack((move(big, "n1"), move(small, "n2"))), 2) == ()
    assert broken_moves(problem, Repack((move(big, "n1"), move(small, "n2"))), 1) == (
        "2 moves, 1 allowed, each pod once",
    )
    assert broken_moves(replace(problem, budgets=()), Repack((move(small, "n2"),)), 2) == (
        "budget default/web allows no more evictions",
    )


@st.composite
def packed(draw):
    """A small fleet with movable pods where they happen to be, and a target."""
    nodes = {f"n{i + 1}": a_node_state(f"n{i + 1}", 2, cpu=16_000) for i in range(draw(st.integers(2, 3)))}
    movable = []
    for i in range(draw(st.integers(2, 6))):
        name, card = draw(st.sampled_from(sorted(nodes))), draw(st.integers(0, 1))
        size, cores = draw(st.sampled_from(((20_000, 20), (40_000, 40), (50_000, 0), (80_000, 100))))
        pdb = draw(st.sampled_from(((), ("default/web",))))
        fields = {"pdb": pdb, "cost": draw(st.integers(1, 3)), "cpu": draw(st.sampled_from((0, 8_000)))}
        each = running(f"p{i}", name, card, memory_mib=size, cores=cores, **fields)
        state = nodes[name].cards[card]
        room = state.free.memory_mib >= size and state.free.cores >= cores
        room = room and nodes[name].free_cpu_milli >= each.ask.cpu_milli
        if room and not (cores == 100 and state.used.slots) and not (cores == 0 and state.used.cores == 100):
            nodes[name] = with_pod(nodes[name], each.ask, each.holding.grant, 1)
            movable.append(each)
    ask = draw(st.sampled_from((an_ask(memory_mib=60_000), WHOLE, an_ask(cards=2, memory_mib=45_000, cores=50))))
    asks = (a_pod_ask("target", ask, cpu_milli=draw(st.sampled_from((0, 12_000)))),)
    budgets = (("default/web", draw(st.integers(0, 2))),)
    return Problem(tuple(nodes.values()), asks, movable=tuple(movable), budgets=budgets)


@settings(max_examples=examples(60))
@given(packed(), st.integers(0, 4))
def test_emptying_cards_executes_step_by_step(problem, most):
    found = plan_repack(problem, None, most)
    after = execute(problem, found)

    before = {s.card.id for node in problem.nodes for s in node.cards if s.used.slots == 0}
    empty = {s.card.id for node in after.values() for s in node.cards if s.used.slots == 0}
    assert (found.rejected, empty) == ("", before | set(found.frees))
    assert len(found.moves) <= most
    assert bool(found.frees) == bool(found.moves)


@settings(max_examples=examples(60))
@given(packed(), st.integers(0, 4))
def test_making_room_executes_step_by_step_and_is_the_cheapest(problem, most):
    found = plan_repack(problem, problem.asks[0], most)
    execute(problem, found)

    assert found.rejected == ""
    cheapest = cheapest_direct_moves(problem, most)
    if found.status in {"fits", "optimal"}:
        assert found.cost == cheapest
    if cheapest is not None:
        assert found.status in {"fits", "optimal"}
    assert bool(found.placed) == (found.status in {"fits", "optimal", "feasible"})


def cheapest_direct_moves(problem, most):
    """The least cost by trying every set of moves whose new places are free from the start; None without any."""
    cards = [(node.name, state.card.index) for node in problem.nodes for state in node.cards]
    best = None
    for places in product((None, *cards), repeat=len(problem.movable)):
        pairs = [(each, place) for each, place in zip(problem.movable, places, strict=True) if place]
        evicted = sum("default/web" in each.pdb for each, _ in pairs)
        cost = sum(each.cost for each, _ in pairs)
        if len(pairs) > most or evicted > dict(problem.budgets)["default/web"] or (best is not None and cost >= best):
            continue
        nodes = {node.name: node for node in problem.nodes}
        if not all(lands(nodes, each.ask, node, (card,)) for each, (node, card) in pairs):
            continue
        for each, _ in pairs:
            nodes[each.holding.node] = with_pod(nodes[each.holding.node], each.ask, each.holding.grant, -1)
        target = problem.asks[0]
        spots = ((0, 1),) if target.containers[0].cards == 2 else ((0,), (1,))
        if any(lands(dict(nodes), target, name, spot) for name in nodes for spot in spots):
            best = cost
    return best


def lands(nodes, ask, name, cards):
    """Put the pod there if it fits."""
    node, want = nodes[name], ask.containers[0]
    slices = []
    for index in cards:
        state = node.cards[index]
        size = want.memory_on(80_000)
        alone = want.cores == 100 and state.used.slots
        if (
            state.free.memory_mib < size
            or state.free.cores < want.cores
            or alone
            or (want.cores == 0 and state.used.cores >= 100)
        ):
            return False
        slices.append(Slice(state.card.id, "nvidia", size, want.cores))
    if node.free_cpu_milli < ask.cpu_milli:
        return False
    nodes[name] = with_pod(node, ask, Grant((ContainerGrant("main", tuple(slices)),)), 1)
    return True
