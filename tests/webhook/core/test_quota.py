"""Quota without Kueue: what its tenant has no room for is refused, with numbers."""

import copy
from typing import Any

import pytest

from kerf.testing.builders import H100_MIB, a_pod
from kerf.values.policy import QuotaEngine
from kerf.values.quota import Amount, Bound
from kerf.wire.admission import Answer
from tests.webhook.tenants import (
    A100_40,
    A100_40_MIB,
    BOTH,
    H100,
    a_book,
    a_broken_book,
    a_class_book,
    a_review,
    settings_of,
)
from webhook.core.mutate import decide
from webhook.core.recent import NOTHING_RECENT, SECONDS, Recent
from webhook.core.settings import Settings


def a_limited(limit: Bound, *, enforced: bool = True, **changes: Any) -> Settings:
    """A tenant with one class, limited."""
    return settings_of([a_book(a_class_book(limit=limit, **changes), enforced=enforced)])


def ask(settings: Settings, pod: dict[str, Any], recent: Recent = NOTHING_RECENT, now: float = 0.0) -> Answer:
    return decide(a_review(pod), settings, recent, now).answer


ONE_CARD = Bound(memory_mib=H100_MIB)


def test_what_does_not_fit_beside_what_is_held_is_refused_with_numbers() -> None:
    settings = a_limited(ONE_CARD, used=Amount(60_000, 0, 8))

    assert ask(settings, a_pod(mem=24_000)).message == (
        "quota: tenant team-a holds or waits for 60,000 MiB of at most 81,559 MiB of NVIDIA H100 80GB HBM3; "
        "24,000 MiB asked, 21,559 MiB would fit"
    )
    assert ask(settings, a_pod(mem=21_559)).allowed


def test_what_waits_counts_as_what_is_held() -> None:
    settings = a_limited(ONE_CARD, used=Amount(40_000), pending=Amount(20_000))

    assert "holds or waits for 60,000 MiB" in ask(settings, a_pod(mem=24_000)).message


@pytest.mark.parametrize(
    ("limit", "pod", "sentence"),
    [
        (Bound(cores=50), a_pod(cores=60), f"at most 50 % of cores of {H100}; 60 % of cores asked for one pod"),
        (Bound(cards=1), a_pod(gpu=2), f"at most 1 card of {H100}; 2 cards asked for one pod"),
        (Bound(10_000), a_pod(mem=10_001), f"at most 10,000 MiB of {H100}; 10,001 MiB asked for one pod"),
    ],
    ids=["cores", "cards", "memory"],
)  # fmt: skip
def test_what_can_never_fit_is_refused_as_such(limit: Bound, pod: dict[str, Any], sentence: str) -> None:
    assert sentence in ask(a_limited(limit), pod).message
    assert ask(a_limited(limit), pod).message.endswith("waiting will not help, ask for less or for more quota")


@pytest.mark.parametrize(("engine", "allowed"), [(QuotaEngine.KERF, False), (QuotaEngine.KUEUE, True)])
def test_a_tenant_of_whose_file_nothing_can_be_kept_may_hold_no_card(engine: QuotaEngine, allowed: bool) -> None:
    """With Kueue its pods wait in a queue that covers nothing."""
    book = a_broken_book("model H100 means several classes", enforced=engine is QuotaEngine.KERF)
    settings = settings_of([book], engine)

    answer = ask(settings, a_pod(mem=1))

    assert answer.allowed is allowed
    assert allowed or answer.message == "quota: tenant team-a may hold no card: model H100 means several classes"
    assert ask(settings, a_pod(gpu=0, mem=None, cores=None)).allowed


def test_such_a_tenant_takes_no_namespace_from_another() -> None:
    broken = a_broken_book("it cannot be read", name="a-first")

    assert settings_of([broken, a_book(a_class_book())]).tenant("team-a") == a_book(a_class_book())


def test_a_pod_is_refused_with_every_maker() -> None:
    pod = a_pod(mem=24_000)
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "controller": True}
    ]

    assert ask(a_limited(ONE_CARD, used=Amount(60_000)), pod).allowed is False


@pytest.mark.parametrize(
    "settings",
    [
        a_limited(Bound(1), enforced=False),
        a_limited(Bound()),
        settings_of([a_book(classes=(), enforced=True)]),
        settings_of([a_book(a_class_book(limit=Bound(1)), enforced=True)], QuotaEngine.OFF),
    ],
    ids=["Kueue keeps it", "no limit", "no card known", "quota is off"],
)
def test_without_a_limit_of_kerfs_nothing_is_refused(settings: Settings) -> None:
    assert ask(settings, a_pod()).allowed


def test_a_pod_without_cards_is_never_refused() -> None:
    assert ask(a_limited(Bound(0, 0, 0)), a_pod(gpu=0, mem=None, cores=None)).allowed


def test_another_class_that_the_pod_would_take_has_room() -> None:
    full = a_class_book(limit=ONE_CARD, used=Amount(H100_MIB))
    settings = settings_of([a_book(full, a_class_book(A100_40, A100_40_MIB, limit=Bound(8000)), enforced=True)])
    picky = a_pod(annotations={"nvidia.com/use-gputype": "H100"})

    first = decide(a_review(a_pod()), settings, NOTHING_RECENT, 0.0)
    second = decide(a_review(a_pod()), settings, first.recent, 0.0)

    assert first.answer.allowed
    assert f"of {H100}; 8,000 MiB asked, 0 MiB would fit" in second.answer.message
    assert ask(settings, picky).allowed is False


def test_every_vendor_that_is_asked_needs_room() -> None:
    classes = (a_class_book(limit=ONE_CARD), a_class_book("Acme One", 16_000, "acme", limit=Bound(cards=0)))
    pod = a_pod()
    pod["spec"]["containers"][0]["resources"]["limits"]["acme.com/mem"] = "1"

    answer = ask(settings_of([a_book(*classes, enforced=True)], vendors=BOTH), pod)

    assert "at most 0 cards of Acme One; 1 card asked" in answer.message


def test_two_creations_at_once_do_not_both_pass() -> None:
    settings = a_limited(ONE_CARD)
    first = decide(a_review(a_pod("one", mem=50_000)), settings, NOTHING_RECENT, 100.0)
    second = decide(a_review(a_pod("two", mem=50_000)), settings, first.recent, 100.0)

    assert (first.answer.allowed, second.answer.allowed) == (True, False)
    assert "holds or waits for 50,000 MiB" in second.answer.message


def test_the_second_passes_when_nothing_came_of_the_first() -> None:
    settings = a_limited(ONE_CARD)
    first = decide(a_review(a_pod("one", mem=50_000)), settings, NOTHING_RECENT, 100.0)

    late = decide(a_review(a_pod("two", mem=50_000)), settings, first.recent, 100.0 + SECONDS)

    assert late.answer.allowed
    assert len(late.recent.entries) == 1


def test_an_admission_that_the_books_show_is_not_counted_twice() -> None:
    first = decide(a_review(a_pod("one", mem=40_000)), a_limited(ONE_CARD), NOTHING_RECENT, 0.0)
    shown = a_limited(ONE_CARD, pending=Amount(40_000, 30, 1))

    assert ask(shown, a_pod("two", mem=41_559), first.recent, 1.0).allowed
    assert "would fit" in ask(shown, a_pod("two", mem=41_560), first.recent, 1.0).message


def test_a_dry_run_is_answered_alike_and_leaves_no_trace() -> None:
    settings = a_limited(ONE_CARD)
    rehearsed = decide(a_review(a_pod(mem=50_000), dry_run=True), settings, NOTHING_RECENT, 0.0)

    assert (rehearsed.answer.allowed, rehearsed.recent) == (True, NOTHING_RECENT)
    assert ask(settings, a_pod(mem=H100_MIB + 1)).allowed is False


def test_a_refused_pod_leaves_no_trace() -> None:
    settings = a_limited(ONE_CARD, used=Amount(60_000))

    assert decide(a_review(a_pod(mem=24_000)), settings, NOTHING_RECENT, 0.0).recent == NOTHING_RECENT


def test_the_question_itself_is_not_changed() -> None:
    pod = a_pod()
    before = copy.deepcopy(pod)
    ask(a_limited(ONE_CARD), pod)

    assert pod == before
