"""Who can wait waits for an answer, but not for long."""

from scheduler.extender.precedence import LONGEST_S, STEP_S, Precedence


class Clock:
    """Time passes by sleeping alone; at `ends_at` the answer is over."""

    def __init__(self, ends_at: float) -> None:
        self.now = 0.0
        self.ends_at = ends_at
        self.precedence = Precedence(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.ends_at:
            self.precedence.__exit__(None, None, None)


def test_an_event_waits_until_the_answer_is_over() -> None:
    clock = Clock(ends_at=3 * STEP_S)

    with clock.precedence:
        clock.precedence.give_way()

    assert 3 * STEP_S <= clock.now < 4 * STEP_S


def test_an_event_does_not_wait_long_for_a_long_answer() -> None:
    clock = Clock(ends_at=1.0)

    with clock.precedence:
        clock.precedence.give_way()

    assert LONGEST_S <= clock.now <= LONGEST_S + STEP_S


def test_without_an_answer_nothing_waits() -> None:
    clock = Clock(ends_at=1.0)

    with clock.precedence:
        pass
    clock.precedence.give_way()

    assert clock.now == 0.0
