"""How a card falls ill and recovers, sign by sign."""

from collections.abc import Callable

import pytest

from kerf.probes.recovery import CLEAN_READS, Course
from kerf.values.health import HEALTHY, Health, State

Step = Callable[[Course], Course]
XID_79 = Health(State.CORDONED, "XID 79", 100)
LOST = Health(State.SUSPECT, "GPU is lost", 100)


def fault(cause: str, now: int = 100) -> Step:
    return lambda course: course.after_fault(cause, now)


def unread(cause: str, now: int = 100, state: State = State.SUSPECT) -> Step:
    return lambda course: course.after_failed_reading(state, cause, now)


def read(times: int = 1, *, pending: bool | None = None, now: int = 200) -> Step:
    def step(course: Course) -> Course:
        for _ in range(times):
            course = course.after_reading(pending, now)
        return course

    return step


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([], HEALTHY, id="nothing has happened"),
        pytest.param([read(100)], HEALTHY, id="clean readings"),
        pytest.param([fault("XID 79")], XID_79, id="a fault"),
        pytest.param([fault("XID 79"), fault("XID 45", 150)], XID_79, id="a second fault: the first cause stays"),
        pytest.param([fault("XID 79"), unread("lost", 150)], XID_79, id="a fault, then lost: the fault stays"),
        pytest.param([unread("GPU is lost")], LOST, id="lost"),
        pytest.param([unread("GPU is lost"), unread("GPU is lost", 150)], LOST, id="still lost: since the first time"),
        pytest.param([unread("GPU is lost"), fault("XID 79", 150)], Health(State.CORDONED, "XID 79", 150), id="worse"),
        pytest.param(
            [unread("GPU is lost"), unread("GPU is lost", 150, State.CORDONED)],
            Health(State.CORDONED, "GPU is lost", 150),
            id="lost for good",
        ),
        pytest.param([unread("GPU is lost"), read()], Health(State.RECOVERING, "GPU is lost", 200), id="back"),
        pytest.param([unread("GPU is lost"), read(CLEAN_READS)], HEALTHY, id="back for long enough"),
        pytest.param(
            [unread("GPU is lost"), read(CLEAN_READS - 1), unread("no answer", 300)],
            Health(State.SUSPECT, "no answer", 300),
            id="lost again while it recovers",
        ),
        pytest.param(
            [fault("XID 48"), read(100, pending=True)], Health(State.CORDONED, "XID 48", 100), id="a reset is pending"
        ),
        pytest.param(
            [fault("XID 48"), read(100, pending=None)],
            Health(State.CORDONED, "XID 48", 100),
            id="clean readings prove nothing without a reset",
        ),
        pytest.param(
            [fault("XID 48"), read(pending=True), read(pending=False)],
            Health(State.RECOVERING, "XID 48", 200),
            id="reset",
        ),
        pytest.param(
            [fault("XID 48"), read(CLEAN_READS, pending=False)], HEALTHY, id="the driver sees no need for a reset"
        ),
        pytest.param([fault("XID 48"), unread("lost"), read(CLEAN_READS)], HEALTHY, id="an old driver: away, and back"),
        pytest.param(
            [fault("XID 48"), read(CLEAN_READS - 1, pending=False), fault("XID 63", 300), read(1, pending=False)],
            Health(State.RECOVERING, "XID 63", 200),
            id="a fault while it recovers starts over",
        ),
    ],
)
def test_a_cards_health_follows_its_signs(steps: list[Step], expected: Health):
    course = Course()
    for step in steps:
        course = step(course)

    assert course.health == expected
