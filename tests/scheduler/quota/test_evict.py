"""Eviction for quota: borrowers that allow it, the newest first, no tenant below its guarantee."""

from typing import Any

from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Amount, WhenOver
from scheduler.quota.capacity import capacity
from scheduler.quota.evict import Running, victims
from scheduler.quota.shares import divide
from tests.scheduler.quota.tenants import SLUG, h100_node, tenant, whole

EVICT = WhenOver.EVICT


def running(name: str, owner: str, cards: int = 1, since: str = "1", priority: int = 0) -> Running:
    return Running(name, owner, ((SLUG, whole(cards)),), since, priority)


def gone(tenants: list[Any], held: list[Running], cards: int) -> list[str]:
    found = capacity([h100_node(cards=cards)], SchedulingPolicy())
    return [one.name for one in victims(found, divide(tenants, found), held)]


def test_while_the_cards_hold_everything_nobody_leaves() -> None:
    assert gone([tenant("a", 1, when_over=EVICT)], [running("x", "a", 3)], cards=3) == []


def test_the_newest_borrower_leaves_and_no_more_than_needed() -> None:
    held = [running("old", "a", since="1"), running("new", "a", since="3"), running("mid", "a", since="2")]

    assert gone([tenant("a", 1, when_over=EVICT)], held, cards=2) == ["new"]
    assert gone([tenant("a", 1, when_over=EVICT)], held, cards=1) == ["new", "mid"]


def test_the_least_important_leaves_before_the_newest() -> None:
    held = [running("low", "a", since="1", priority=-1), running("new", "a", since="3")]

    assert gone([tenant("a", 0, when_over=EVICT)], held, cards=1) == ["low"]


def test_who_keeps_is_kept_and_who_is_within_its_guarantee_too() -> None:
    tenants = [tenant("keeps", 0), tenant("within", 1, when_over=EVICT), tenant("borrows", 0, when_over=EVICT)]
    held = [running("k", "keeps", since="9"), running("w", "within", since="8"), running("b", "borrows", since="1")]

    assert gone(tenants, held, cards=2) == ["b"]
    assert gone(tenants, held, cards=1) == ["b"]  # keeps keeps; within holds what it is guaranteed


def test_what_holds_nothing_that_is_short_stays() -> None:
    held = [running("x", "a", 2), Running("cpu", "a", ((SLUG, Amount(0, 0, 0)),), "9")]

    assert gone([tenant("a", 0, when_over=EVICT)], held, cards=1) == ["x"]
