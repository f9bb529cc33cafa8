"""The bad days of `make chaos`, each as short as possible."""

from collections.abc import Iterator

import pytest

from tests.cluster.chaos.days import DAYS
from tests.cluster.chaos.verdict import a_world, live_through
from tests.cluster.chaos.world import SHORT, World

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with a_world(SHORT) as world:
        yield world


@pytest.mark.parametrize("name", DAYS)
def test_on_a_bad_day_no_card_is_over_committed_and_no_pod_is_lost(world: World, name: str) -> None:
    verdict = live_through(world, name, DAYS[name])

    print(verdict)
    assert (verdict.problems, verdict.overcommitted, verdict.lost) == ((), 0, 0)
