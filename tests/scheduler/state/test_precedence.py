"""Who can wait waits for an answer, but not for long, and lets others have the lock and the interpreter meanwhile."""

import threading

import pytest

from scheduler.state.precedence import LETTING_S, LONGEST_S, Precedence


class Gate:
    """Writes down what is done with it; it opens for those who wait only if `opens`."""

    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.taken = False
        self.log: list[object] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.log.append(("acquire", timeout) if blocking else "enter")
        found = not self.taken or (blocking and self.opens)
        self.taken = self.taken or found
        return found

    def release(self) -> None:
        self.log.append("release")
        self.taken = False

    def locked(self) -> bool:
        return self.taken


def test_an_event_waits_until_the_answer_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.state.precedence.LONGEST_S", 60.0)  # a busy machine gives no thread its turn in time
    precedence, order = Precedence(), list[str]()

    def event() -> None:
        precedence.give_way()
        order.append("event")

    with precedence:
        thread = threading.Thread(target=event)
        thread.start()
        order.append("answer")
    thread.join(5)

    assert order == ["answer", "event"]


def test_an_event_does_not_wait_long_for_a_long_answer() -> None:
    gate = Gate(opens=False)
    precedence = Precedence(gate)

    with precedence:
        precedence.give_way()

    assert gate.log == ["enter", ("acquire", LONGEST_S), "release"]


def test_a_thread_that_has_waited_leaves_the_gate_open() -> None:
    gate = Gate(opens=True)
    gate.taken = True

    Precedence(gate).give_way()

    assert gate.log == [("acquire", LONGEST_S), "release"]


def test_without_an_answer_nothing_waits() -> None:
    gate = Gate(opens=False)

    Precedence(gate).give_way()

    assert gate.log == []


def test_an_answer_waits_for_nobody_at_the_gate_and_leaves_it_to_the_other() -> None:
    gate = Gate(opens=True)
    gate.taken = True

    with Precedence(gate):
        pass

    assert gate.log == ["enter"]


def test_a_pause_between_two_pieces_of_work_is_a_real_one() -> None:
    slept: list[float] = []

    Precedence(Gate(opens=False), slept.append).pause()

    assert slept == [LETTING_S]


def test_a_pause_beside_an_answer_waits_for_the_answer_and_no_longer() -> None:
    gate, slept = Gate(opens=True), list[float]()
    gate.taken = True

    Precedence(gate, slept.append).pause()

    assert (gate.log, slept) == ([("acquire", LONGEST_S), "release"], [])
