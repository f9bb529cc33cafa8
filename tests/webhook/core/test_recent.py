"""What was admitted a moment ago counts once: either here or in the books."""

from hypothesis import given
from hypothesis import strategies as st

from kerf.values.quota import NOTHING, Amount
from webhook.core.recent import NOTHING_RECENT, SECONDS, Recent, RecentReview


def admitted(mib: int, at: float, before: int = 0, tenant: str = "a", slug: str = "h100") -> RecentReview:
    return RecentReview(tenant, slug, Amount(mib), Amount(before), at)


def test_admissions_add_up_while_the_books_do_not_show_them() -> None:
    recent = Recent((admitted(10, 0.0), admitted(20, 0.1)))

    assert recent.held("a", "h100", NOTHING) == Amount(30)


def test_what_others_admitted_meanwhile_counts_from_the_books() -> None:
    recent = Recent((admitted(10, 0.0, before=5),))

    assert recent.held("a", "h100", Amount(100)) == Amount(100)


def test_other_tenants_and_classes_are_apart() -> None:
    recent = Recent((admitted(10, 0.0, tenant="b"), admitted(10, 0.0, slug="a100")))

    assert recent.held("a", "h100", Amount(1)) == Amount(1)


def test_an_admission_is_forgotten_after_three_seconds() -> None:
    recent = Recent((admitted(10, 1.0), admitted(20, 2.0)))

    assert recent.at(1.0 + SECONDS) == Recent((admitted(20, 2.0),))


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=12))
def test_whenever_the_books_catch_up_each_pod_counts_exactly_once(steps: list[tuple[int, bool]]) -> None:
    """Pods are admitted one after another; before some of them the books catch up with all that came before."""
    recent, shown, true = NOTHING_RECENT, 0, 0
    for mib, caught_up in steps:
        shown = true if caught_up else shown
        assert recent.held("a", "h100", Amount(shown)) == Amount(true)
        recent = recent.plus((admitted(mib, 0.0, before=shown),))
        true += mib
