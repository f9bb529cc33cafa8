"""How a card falls ill and recovers, sign by sign."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.probes.recovery import CLEAN_READS, FORGET_S, MOST_CLEAN_READS, Course, Sign
from kerf.testing.builders import a_card
from kerf.values.fault import Verdict
from kerf.values.health import HEALTHY, Health, State
from kerf.wire.inventory import parse_inventory, render_inventory

Step = Callable[[Course], Course]
XID_79 = Health(State.CORDONED, "XID 79", 100)
LOST = Health(State.SUSPECT, "GPU is lost", 100)


def fault(cause: str, now: int = 100, verdict: Verdict = Verdict.CORDON) -> Step:
    return lambda course: course.after_fault(Sign(verdict, cause, now))


def unread(cause: str, now: int = 100) -> Step:
    return lambda course: course.after_failed_reading(cause, now)


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
        pytest.param([fault("XID 94", verdict=Verdict.SUSPECT)], Health(State.SUSPECT, "XID 94", 100), id="suspect"),
        pytest.param([fault("XID 13", verdict=Verdict.WARN)], HEALTHY, id="a program's own error"),
        pytest.param(
            [fault("XID 79"), fault("XID 94", 150, Verdict.SUSPECT)], XID_79, id="a weaker fault changes nothing"
        ),
        pytest.param(
            [fault("XID 64"), fault("XID 79", 150, Verdict.EVICT)],
            Health(State.CORDONED, "XID 79", 150),
            id="a cause to move replaces one to stay",
        ),
        pytest.param(
            [unread("GPU is lost"), read(CLEAN_READS), fault("XID 79", 150)],
            HEALTHY,
            id="a report of a fault from before it recovered",
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
    health = after(*steps).health

    assert (HEALTHY if health.takes_slices else Health(health.state, health.cause, health.since)) == expected


def after(*steps: Step, course: Course = Course()) -> Course:  # noqa: B008 (a value)
    for step in steps:
        course = step(course)
    return course


OFF = Sign(Verdict.EVICT, "XID 79", 100, 79)


def test_only_a_fault_for_which_tenants_have_to_move_says_so_and_no_longer_once_the_card_recovers():
    fallen = Course().after_fault(OFF, "boot-1")

    assert fallen.health == Health(State.CORDONED, "XID 79", 100, 79, True, True, 1, boot="boot-1")
    assert after(unread("lost"), read(), course=fallen).health.moves is False


def test_a_card_that_was_away_when_it_failed_needs_no_other_sign_of_a_reset():
    lost = Course().after_fault(Sign(Verdict.EVICT, "GPU is lost", 100, 79, away=True))

    assert after(read(CLEAN_READS), course=lost).health.takes_slices


def test_another_boot_is_a_sign_of_a_reset_and_the_same_boot_is_none():
    fallen = Course().after_fault(OFF, "boot-1")

    assert after(read(100), course=fallen.after_restart("boot-1")).health.state is State.CORDONED
    assert after(read(100), course=fallen.after_restart("")).health.state is State.CORDONED
    assert after(read(CLEAN_READS), course=fallen.after_restart("boot-2")).health.takes_slices


def test_a_card_that_falls_again_and_again_has_to_be_well_for_longer_each_time():
    def reads_until_well(course: Course) -> tuple[int, Course]:
        for number in range(1, MOST_CLEAN_READS + 2):
            course = course.after_reading(None, 200)
            if course.health.takes_slices:
                return number, course
        raise AssertionError("the card never recovers")

    course, needed = Course(), []
    for _ in range(8):
        number, course = reads_until_well(course.after_failed_reading("lost", 150))
        needed.append(number)

    assert needed == [6, 12, 24, 48, 96, 192, 360, 360]
    assert after(read(now=200 + FORGET_S), course=course) == Course()


SIGNS = st.one_of(
    st.builds(lambda v, at: fault("XID", at, v), st.sampled_from(Verdict), st.integers(100, 200)),
    st.builds(lambda: unread("lost", 150)),
    st.builds(lambda n, p: read(n, pending=p), st.integers(1, 8), st.sampled_from([None, True, False])),
    st.builds(lambda boot: lambda course: course.after_restart(boot), st.sampled_from(["", "b"])),
)


@given(st.lists(SIGNS, max_size=20))
def test_a_card_moves_its_tenants_only_while_it_is_cordoned_and_recovers_through_clean_readings(steps: list[Step]):
    course = Course()
    for step in steps:
        was, course = course, step(course)
        assert not course.health.moves or course.health.state is State.CORDONED
        if was.health.state is State.CORDONED:
            assert course.health.state is not State.SUSPECT
    well = after(unread("lost", 300), read(2 * MOST_CLEAN_READS, pending=False, now=400), course=course)
    assert well.health.takes_slices


@given(st.lists(SIGNS, max_size=20))
def test_a_restart_of_the_plugin_forgets_nothing_but_the_clean_readings(steps: list[Step]):
    course = after(*steps)
    read_again = parse_inventory(render_inventory((a_card(health=course.health),)))[0].health

    assert Course(read_again).after_restart("") == Course(course.health)
