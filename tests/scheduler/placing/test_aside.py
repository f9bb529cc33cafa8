"""Plans made in a process of their own: the same plans, from nodes that are sent when they change, whatever ends it."""

import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_node, a_node_value, a_pod_ask, an_ask
from kerf.values.grant import CardUse
from kerf.values.policy import PlannerSettings, SchedulingPolicy
from scheduler.core.state import CardState, NodeState
from scheduler.placing.aside import NODES_A_FRAME, Aside, PlanError, _Change, answer_all
from scheduler.solver.problem import Plan, Problem
from scheduler.solver.solve import plan
from tests.scheduler.placing.test_planner import World

POLICY = SchedulingPolicy(planner=PlannerSettings(deterministic_limit=0.05))


def a_state(name: str, used_mib: int = 0) -> NodeState:
    cards = a_node_value(name, 2).cards
    states = tuple(CardState(card, CardUse(used_mib, 10, 1) if used_mib else CardUse()) for card in cards)
    return NodeState(name, states, 64_000, 512_000)


def a_problem(*nodes: NodeState, pods: int = 7) -> Problem:
    # three classes that do not fill the cards evenly, so that greedy's plan may be improved on
    asks = [an_ask(memory_mib=20_000 + 17_000 * (i % 3), cores=20 + 15 * (i % 3)) for i in range(pods)]
    return Problem(nodes, tuple(a_pod_ask(f"p{i}", ask) for i, ask in enumerate(asks)), POLICY)


@pytest.fixture
def aside() -> Iterator[Aside]:
    one = Aside()
    yield one
    one.close()


def test_the_process_makes_the_plans_of_the_solver_as_nodes_come_change_and_go(aside: Aside) -> None:
    many = [a_state(f"n{i:02}", used_mib=1000 * i) for i in range(NODES_A_FRAME + 3)]
    problems = (
        a_problem(*many),
        a_problem(*many[1:3], a_state("n07", used_mib=70_000), pods=9),
        a_problem(many[2], a_state("new"), many[5]),
    )

    assert [aside.plan(problem) for problem in problems] == [plan(problem) for problem in problems]


def test_only_nodes_that_have_changed_are_sent() -> None:
    one = Aside()
    first, second = a_state("a"), a_state("b")
    list(one._frames(a_problem(first, second)))

    frames = [pickle.loads(frame) for frame in one._frames(a_problem(first, a_state("b", used_mib=500)))]

    assert [[state.name for state in frame] for frame in frames[:-1]] == [["b"]]
    assert frames[-1].names == ("a", "b")


def test_cards_that_the_process_knows_are_not_sent_again(aside: Aside) -> None:
    first, other = a_state("a"), a_state("b")
    held = tuple(
        replace(card, used=CardUse(30_000, 40, 2, 7), usable=number == 0) for number, card in enumerate(other.cards)
    )
    fuller = replace(other, cards=held, free_cpu_milli=9, problem="late", schedulable=False)
    fewer = replace(fuller, cards=fuller.cards[:1], problem="")
    rounds = [a_problem(first, each) for each in (other, fuller, fewer, other)]

    sent = Aside()
    frames = [b"".join(list(sent._frames(problem))[:-1]) for problem in rounds]

    assert [b"Card" in frame for frame in frames] == [True, False, True, True]
    assert [aside.plan(problem) for problem in rounds] == [plan(problem) for problem in rounds]


@given(st.data())
def test_a_node_that_has_changed_is_what_is_left_of_it_once_it_was_packed(data: st.DataObject) -> None:
    before, number = a_state("a"), st.integers(-5, 100_000)
    uses = st.builds(CardUse, number, number, number, number)
    cards = tuple(replace(card, used=data.draw(uses), usable=data.draw(st.booleans())) for card in before.cards)
    rest = {
        "free_cpu_milli": data.draw(number),
        "problem": data.draw(st.text()),
        "schedulable": data.draw(st.booleans()),
    }
    now = replace(before, cards=cards, **rest)

    assert pickle.loads(pickle.dumps(_Change.of(now))).after(before) == now


def test_a_plan_after_the_process_has_ended_starts_another_one(aside: Aside) -> None:
    problem = a_problem(a_state("a"))
    before = aside.plan(problem)
    assert aside._process is not None
    aside._process.kill()
    aside._process.wait()

    assert aside.plan(problem) == before


@pytest.mark.parametrize("code", ["pass", "import os; os._exit(3)", "import sys; sys.stdin.buffer.read(9)"])
def test_a_process_that_answers_nothing_is_an_error_and_the_next_plan_starts_again(code: str) -> None:
    one = Aside((sys.executable, "-c", code))

    with pytest.raises(PlanError, match="the process that plans ended"):
        one.plan(a_problem(a_state("a")))

    assert (one._process, one._sent) == (None, {})


def test_the_process_ends_when_its_parent_does() -> None:
    one = Aside()
    one.plan(a_problem(a_state("a")))
    process = one._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(20) == 0
    one.close()


def test_a_process_that_is_asked_nothing_more_ends() -> None:
    said: list[object] = [(a_state("a"),)]

    def read() -> object:
        if not said:
            raise EOFError
        return said.pop()

    answers: list[Plan] = []
    answer_all(read, answers.append)

    assert answers == []


def test_nodes_that_have_not_changed_are_the_same_value() -> None:
    store = World(a_node("a"), a_node("b")).store
    before = store.desk.states()
    store.feed.apply_node("MODIFIED", a_node("b", cards=3))

    after = store.desk.states()

    assert after[0] is before[0]
    assert len(after[1].cards) == 3
