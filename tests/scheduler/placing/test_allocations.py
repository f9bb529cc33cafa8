"""What came of allocations that were let through: by this leader, asked; by the last one, ended."""

import time
from threading import Event
from typing import Any

from kerf.kube.errors import Unreachable
from kerf.kube.watch import Follower
from kerf.testing.builders import a_claim
from kerf.testing.fake_kube import FakeKube
from kerf.values.quota import Amount
from kerf.wire.claims import CLAIMS, claim_path, parse_claim
from kerf.wire.json import at
from scheduler.placing.allocations import ASK_AFTER_S, OVER_S, SETTLED, AllocationExpiry, Settlement
from scheduler.state.claims import ClaimingPods
from scheduler.state.store import Store
from tests.scheduler.quota.tenants import SLUG
from tests.scheduler.state.test_counted_claims import ask, claim_of, team, used

PATH = claim_path("team", "a")
HELD = {SLUG: Amount(6000, 0, 1)}


def waiting(name: str = "a", namespace: str = "team") -> dict[str, Any]:
    item = a_claim(name)
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}


def let_through() -> tuple[Store, FakeKube]:
    """A leader that let 6,000 MiB through for claim `a`, and the API server."""
    store, kube = team(), FakeKube()
    version = int(kube.put(waiting())["metadata"]["resourceVersion"])
    assert ask(store, "a", ("gpu-0", 6000, 0), based_on=version) == ""
    return store, kube


def look(store: Store, kube: FakeKube, after_s: float) -> dict[str, Amount]:
    AllocationExpiry(store, kube, lambda: time.monotonic() + after_s).run_once()
    return used(store)


def test_what_was_let_through_counts_until_it_is_certain_that_it_takes_no_effect() -> None:
    store, kube = let_through()

    counted = [look(store, kube, after) for after in (0, ASK_AFTER_S + 1, OVER_S - 10, OVER_S + 1)]

    assert counted == [HELD, HELD, HELD, {}]


def test_a_claim_that_is_gone_or_another_of_its_name_ends_it_at_once() -> None:
    for change in (lambda kube: kube.remove(PATH), lambda kube: kube.put(other())):
        store, kube = let_through()
        change(kube)

        assert look(store, kube, ASK_AFTER_S + 1) == {}


def other() -> dict[str, Any]:
    item = waiting()
    item["metadata"]["uid"] = "another"
    return item


def test_a_claim_that_has_changed_is_counted_as_it_is() -> None:
    store, kube = let_through()
    kube.put({**claim_of("a", ("gpu-0", 2000, 0))})

    assert look(store, kube, ASK_AFTER_S + 1) == {SLUG: Amount(2000, 0, 1)}


def test_while_the_api_server_does_not_answer_it_counts() -> None:
    store, kube = let_through()

    def away(method: str, path: str) -> None:
        raise Unreachable("away")

    kube.fail = away

    assert look(store, kube, OVER_S + 1) == HELD


# ---- a new leader
class Led:
    """A process that is elected, beside claims that wait and one that is allocated."""

    def __init__(self) -> None:
        self.kube = FakeKube(waiting(), waiting("free", "tenantless"), claim_of("held", ("gpu-0", 1000, 0)))
        self.store = team()
        seen = ClaimingPods(self.store, "nvidia")
        self.follower = Follower(self.kube, CLAIMS, seen.replace_claims, seen.apply_claim, optional=True)
        self.term = 1
        self.settlement = Settlement(self.store, self.kube, self.follower, lambda: self.term)

    def follow(self) -> None:
        self.follower.start()
        assert self.follower.synced.wait(30)

    def settle(self) -> int:
        """Rounds until it is done."""
        return next(i for i in range(1, 9) if self.settlement.run_once(Event()))

    def settled(self) -> list[str]:
        found = self.kube.objects()
        return [f["metadata"]["name"] for f in found if SETTLED in at(f, "metadata", "annotations")]


def test_a_new_leader_changes_what_waits_where_a_quota_limits_it_and_sees_what_is_held() -> None:
    led = Led()
    led.follow()
    before = int(led.kube.get(PATH)["metadata"]["resourceVersion"])

    rounds = led.settle()
    led.follower.stop()

    assert (rounds, led.settlement.over, led.settled()) == (2, True, ["a"])
    assert int(led.kube.get(PATH)["metadata"]["resourceVersion"]) > before
    assert used(led.store) == {SLUG: Amount(1000, 0, 1)}


def test_each_term_settles_again_and_one_that_changes_on_the_way_begins_again() -> None:
    led = Led()
    led.follow()
    assert not led.settlement.run_once(Event())
    led.term = 2

    rounds = led.settle()
    led.follower.stop()

    assert (rounds, led.kube.writes) == (2, [("PATCH", PATH)] * 2)


def test_before_the_first_list_and_while_the_api_server_refuses_nothing_is_settled() -> None:
    led = Led()
    assert not led.settlement.run_once(Event())
    led.follow()

    def away(method: str, path: str) -> None:
        if method == "PATCH":
            raise Unreachable("away")

    led.kube.fail = away
    said = [led.settlement.run_once(Event()) for _ in range(3)]
    led.follower.stop()

    assert (said, led.settlement.over) == ([False] * 3, False)


def test_a_claim_that_is_deleted_meanwhile_is_settled() -> None:
    led = Led()
    led.follow()
    led.kube.fail = lambda method, path: led.kube.remove(PATH) if method == "PATCH" and path == PATH else None

    rounds = led.settle()
    led.follower.stop()

    assert rounds == 2
    assert parse_claim(waiting()).allocated is False
