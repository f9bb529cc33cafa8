"""Recommended replicas: when more, when fewer, and why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.metering.scale import Recommendation, Room, Signal, Steady, recommend, wanted
from kerf.values.policy import ScaleSettings

SETTINGS = ScaleSettings(waiting_per_replica=5, kv_percent=80, most_replicas=8, cooldown_s=600)


@pytest.mark.parametrize(
    ("signal", "replicas"),
    [
        (Signal(2, 2, waiting=10, kv_use=0.5), 2),  # five for each replica may wait
        (Signal(2, 2, waiting=11, kv_use=0.5), 3),
        (Signal(2, 2, waiting=1000, kv_use=0.5), 4),  # at most twice as many at once
        (Signal(2, 2, waiting=0, kv_use=0.81), 3),
        (Signal(2, 2, waiting=0, kv_use=0.5), 2),  # one would be at 100 %
        (Signal(4, 4, waiting=0, kv_use=0.3), 3),  # three would be at 40 %, below 60 % of 80 %
        (Signal(1, 1, waiting=0, kv_use=0.0), 1),
        (Signal(3, 2, waiting=90, kv_use=0.9), 3),  # one loads, sleeps or is silent
        (Signal(3, 0, waiting=0, kv_use=0.0), 3),
        (Signal(20, 20, waiting=101, kv_use=0.5), 23),
        (Signal(20, 20, waiting=0, kv_use=0.81), 23),
        (Signal(20, 20, waiting=0, kv_use=0.4), 17),
    ],
)
def test_what_the_signals_ask_for(signal: Signal, replicas: int) -> None:
    assert wanted(signal, SETTINGS) == replicas


@given(st.integers(1, 500), st.integers(0, 10_000), st.floats(0, 1))
def test_kubernetes_never_ignores_a_change_as_too_small(now: int, waiting: int, kv_use: float) -> None:
    """Its autoscaler does nothing where the wanted replicas differ from the present ones by a tenth or less."""
    change = abs(wanted(Signal(now, now, waiting, kv_use), SETTINGS) / now - 1)

    assert change == 0 or change > 0.1


BUSY = Signal(3, 3, waiting=30, kv_use=0.9)


@pytest.mark.parametrize(
    ("room", "found"),
    [
        (Room(9, "cards"), Recommendation(6, 6)),
        (Room(1, "no card has 8,000 MiB"), Recommendation(6, 4, "no card has 8,000 MiB")),
        (Room(0, "quota"), Recommendation(6, 3, "quota")),
    ],
)
def test_no_more_than_there_is_room_for_and_why(room: Room, found: Recommendation) -> None:
    assert recommend(BUSY, room, SETTINGS) == found


def test_no_more_than_the_policy_allows() -> None:
    found = recommend(Signal(7, 7, 70, 0.9), Room(50), SETTINGS)

    assert found == Recommendation(14, 8, "the policy allows 8 replicas (scaleOut.mostReplicas)")


def test_fewer_has_to_last_and_more_comes_at_once() -> None:
    steady = Steady(600)

    assert [steady.after(at, count) for at, count in ((0, 4), (10, 2), (500, 3), (601, 2), (1101, 2), (1102, 5))] == [
        4, 4, 4, 3, 2, 5,
    ]  # fmt: skip
