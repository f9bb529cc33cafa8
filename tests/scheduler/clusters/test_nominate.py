"""Which clusters are nominated: best first, one at a time, and never one that does not fit."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.clusters.nominate import Nomination, Offer, nominate, rank

NEAR = Offer("near", free_mib=1000, flavors=("h100",))
FAR = Offer("far", free_mib=9000, flavors=("h100-far",))
FULL = Offer("full", "0 of 2 pods fit now")


def test_the_tightest_cluster_that_fits_is_nominated_alone():
    assert nominate([FAR, FULL, NEAR], (), more=False) == Nomination(
        clusters=("near",), flavors=("h100",), refused=("full: 0 of 2 pods fit now",)
    )


def test_who_is_nominated_stays_until_more_is_due():
    assert nominate([FAR, NEAR], ("near",), more=False).clusters == ("near",)
    assert nominate([FAR, NEAR], ("near",), more=True) == Nomination(("near", "far"), ("h100", "h100-far"), ())


def test_a_nominated_cluster_that_filled_up_keeps_its_turn():
    assert nominate([FULL, NEAR], ("full",), more=False).clusters == ("full",)


def test_a_nominated_cluster_that_is_gone_is_replaced():
    assert nominate([NEAR], ("gone",), more=False).clusters == ("near",)


def test_nobody_is_nominated_where_nothing_fits():
    assert nominate([FULL], (), more=True) == Nomination((), (), ("full: 0 of 2 pods fit now",))


offers = st.lists(
    st.builds(Offer, st.sampled_from("abcdef"), st.sampled_from(["", "", "full"]), st.integers(0, 3)),
    unique_by=lambda offer: offer.cluster,
)


@given(offers, st.lists(st.sampled_from("abcdef"), unique=True), st.booleans(), st.randoms())
def test_the_answer_knows_no_order_and_adds_at_most_one_cluster_that_fits(found, nominated, more, random):
    shuffled = random.sample(found, len(found))

    answer = nominate(found, nominated, more=more).clusters

    assert nominate(shuffled, nominated, more=more).clusters == answer
    added = set(answer) - set(nominated)
    assert len(added) <= 1
    assert added <= {offer.cluster for offer in rank(found)}
