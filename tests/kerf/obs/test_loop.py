"""The loop runner: rounds on time or when woken, and failures that never end it."""

import logging
import threading
from collections.abc import Callable, Iterable

import pytest

from kerf.obs.loop import Loop, run_every
from kerf.obs.metrics import Metrics

LONG_S = 3600.0


def run_rounds(loop: Loop, rounds: Iterable[Callable[[], object]], wake: threading.Event | None = None) -> None:
    """Run these rounds, then stop."""
    stop = threading.Event()
    steps = iter(rounds)

    def once() -> None:
        step = next(steps, stop.set)
        step()

    run_every(loop, once, stop, wake)


def fails_with(error: Exception) -> Callable[[], object]:
    def step() -> None:
        raise error

    return step


def test_rounds_follow_each_other_until_the_loop_is_stopped():
    done: list[int] = []

    run_rounds(Loop("x", every_s=0.001), [lambda n=n: done.append(n) for n in range(3)])

    assert done == [0, 1, 2]


def test_a_loop_that_is_stopped_before_it_begins_runs_no_round():
    stop = threading.Event()
    stop.set()
    for wake in (None, threading.Event()):
        run_every(Loop("x", every_s=LONG_S), lambda: pytest.fail("a round ran"), stop, wake)


def test_a_change_wakes_the_loop_long_before_its_period_ends_and_a_change_within_a_round_does_so_again():
    wake, stop = threading.Event(), threading.Event()
    rounds: list[bool] = []

    def once() -> None:
        rounds.append(wake.is_set())
        wake.set()
        if len(rounds) == 3:
            stop.set()

    wake.set()
    run_every(Loop("x", every_s=LONG_S), once, stop, wake)

    assert rounds == [False, False, False]


def test_a_failed_round_is_counted_and_retried_after_a_pause_that_grows_and_is_forgotten_after_a_good_one(
    caplog: pytest.LogCaptureFixture,
):
    failures = Metrics().counter("failures_total", "Rounds that failed")
    loop = Loop("x", 0.001, first_pause_s=0.001, longest_pause_s=0.003, expected=(OSError,), failures=failures)
    bad = fails_with(OSError("no route"))

    run_rounds(loop, [bad, bad, bad, lambda: None, bad])

    assert [record.args[1] for record in caplog.records] == [0.001, 0.002, 0.003, 0.001]
    assert failures._value.get() == 4


def test_an_expected_failure_is_one_line_and_any_other_comes_with_its_traceback(caplog: pytest.LogCaptureFixture):
    loop = Loop("x", 0.001, first_pause_s=0.001, expected=(OSError,))

    run_rounds(loop, [fails_with(OSError("no route")), fails_with(ValueError("a defect"))])

    assert [(r.name, r.levelno, r.getMessage(), bool(r.exc_info)) for r in caplog.records] == [
        ("kerf.x", logging.WARNING, "no route; retrying in 0.0 s", False),
        ("kerf.x", logging.WARNING, "the round failed; retrying in 0.0 s", True),
    ]


def test_a_loop_may_begin_at_once():
    stop = threading.Event()

    run_every(Loop("x", every_s=LONG_S, at_once=True), stop.set, stop)

    assert stop.is_set()
