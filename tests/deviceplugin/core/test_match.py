"""Without CDI: a match or a refusal, never a guess."""

import pytest

from deviceplugin.core.match import Match, Waiting, match
from deviceplugin.core.refusal import StartRefusal, Why


def a_waiting(name: str, *containers: tuple[str, int], done: tuple[str, ...] = ()) -> Waiting:
    return Waiting(f"team/{name}", name, containers, done)


@pytest.mark.parametrize(
    ("cards", "pods", "expected"),
    [
        pytest.param(1, [a_waiting("a", ("main", 1))], Match("a", "main"), id="the only pod"),
        pytest.param(2, [a_waiting("a", ("main", 1)), a_waiting("b", ("main", 2))], Match("b", "main"), id="by count"),
        pytest.param(
            1, [a_waiting("a", ("init", 1), ("main", 1), done=("init",))], Match("a", "main"), id="the next container"
        ),
        pytest.param(1, [a_waiting("a", ("init", 2), ("main", 1))], Why.UNKNOWN_POD, id="not before its turn"),
        pytest.param(1, [a_waiting("a", ("main", 1), done=("main",))], Why.UNKNOWN_POD, id="everything allocated"),
        pytest.param(1, [], Why.UNKNOWN_POD, id="no pod waits"),
        pytest.param(1, [a_waiting("a", ("main", 1)), a_waiting("b", ("main", 1))], Why.AMBIGUOUS, id="two alike"),
    ],
)
def test_slots_are_matched_to_the_only_container_that_matches(cards: int, pods: list[Waiting], expected: object):
    found = match(cards, tuple(pods))

    assert expected == (found.why if isinstance(found, StartRefusal) else found)
    assert found == match(cards, tuple(reversed(pods)))


def test_the_refusal_names_every_candidate_and_the_fix():
    found = match(1, (a_waiting("b", ("main", 1)), a_waiting("a", ("main", 1))))

    assert isinstance(found, StartRefusal)
    assert found.message == (
        "2 containers wait for 1 cards and without CDI the kubelet does not report which one this is: team/a (main), "
        "team/b (main); enable CDI in the container runtime"
    )
