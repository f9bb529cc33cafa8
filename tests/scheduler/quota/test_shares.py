"""Capacity from cards, and its division: guarantees, fair shrinking, the rest."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import H100_MIB, a_card, cards_of
from kerf.values.device import Mode
from kerf.values.health import SUSPECT
from kerf.values.policy import Pool, QuotaSettings, SchedulingPolicy
from kerf.values.quota import DIMENSIONS, Amount, Bound, ClassQuota, Share, TenantQuota
from scheduler.quota.capacity import ClassCapacity, capacity
from scheduler.quota.peak_window import PeakWindow
from scheduler.quota.shares import divide, largest_remainder
from tests.scheduler.quota.tenants import H100, L4, L4_MIB, h100_node, l4_node, tenant, whole

POLICY = SchedulingPolicy()


def test_capacity_is_the_sum_of_the_cards_by_class() -> None:
    found = capacity([l4_node(), h100_node()], POLICY)

    assert found == {
        H100: ClassCapacity(whole(4), whole(1), H100_MIB, H100_MIB, 4),
        L4: ClassCapacity(Amount(2 * L4_MIB, 200, 20), Amount(L4_MIB, 100, 10), L4_MIB, L4_MIB, 2),
    }


def test_sick_cordoned_and_lost_cards_give_nothing_but_keep_their_class() -> None:
    sick, *well = cards_of("h-1", 4)
    nodes = [
        h100_node(cards=(replace(sick, health=SUSPECT), *well), cordoned=(well[0].id,)),  # 2 of 4 left
        h100_node("h-2", schedulable=False),
        l4_node(ready=False),
    ]

    found = capacity(nodes, POLICY)

    assert (found[H100].total, found[H100].cards) == (whole(2), 2)
    assert (found[L4].total, found[L4].card) == (Amount(), Amount(L4_MIB, 100, 10))


def test_over_commitment_counts_and_the_reserve_does_not() -> None:
    policy = SchedulingPolicy(
        pools=(Pool("all", memory_overcommit=1.5, cores_overcommit=2.0),), quota=QuotaSettings(reserve_percent=10)
    )

    found = capacity([h100_node(cards=1)], policy)[H100]

    # 81,559 * 1.5 = 122,338; 90 % of it is 110,104
    assert (found.total, found.smallest_mib) == (Amount(110_104, 200, 10), H100_MIB)


def test_mig_cards_are_no_quota() -> None:
    assert capacity([h100_node(cards=(a_card(mode=Mode.MIG),))], POLICY) == {}


def test_guarantees_are_kept_while_they_fit_and_the_rest_is_everybodys() -> None:
    shares = divide([tenant("b", 1), tenant("a", 2)], capacity([h100_node()], POLICY))

    assert [(s.tenant.name, s.parts[0].guaranteed) for s in shares.tenants] == [
        ("a", Bound(*astuple(whole(2)))),
        ("b", Bound(*astuple(whole(1)))),
    ]
    assert not any(part.shrunk for s in shares.tenants for part in s.parts)
    assert shares.rest == ((H100, whole(1)),)


def test_promises_beyond_the_cards_shrink_by_largest_remainder_and_say_so() -> None:
    # 4 cards, promised 3 + 2 + 1: every one gets 4/6 of its own
    shares = divide([tenant("a", 3), tenant("b", 2), tenant("c", 1)], capacity([h100_node()], POLICY))

    parts = [s.parts[0] for s in shares.tenants]
    assert [part.guaranteed.cores for part in parts] == [200, 133, 67]  # of 400; 66.67 has the largest remainder
    assert sum(part.guaranteed.memory_mib or 0 for part in parts) == 4 * H100_MIB
    assert all(part.shrunk for part in parts)
    assert shares.rest == ((H100, Amount()),)


def test_a_dimension_that_a_tenant_does_not_name_is_not_limited() -> None:
    shares = divide([tenant("a", Share(memory_mib=1000))], capacity([h100_node()], POLICY))

    part = shares.tenants[0].parts[0]
    assert part.guaranteed == Bound(1000, None, None)
    assert part.limit == Bound(None, None, None)  # it borrows without limit
    assert shares.rest == ((H100, whole(4) - Amount(1000)),)


def test_a_burst_bounds_what_a_tenant_holds() -> None:
    shares = divide([tenant("a", 1, burst=Share(memory_mib=500))], capacity([h100_node()], POLICY))

    assert shares.tenants[0].parts[0].limit == Bound(H100_MIB + 500, None, None)


def test_what_a_file_says_and_no_card_is_becomes_a_sentence() -> None:
    several = [h100_node(), h100_node("h-2", cards=cards_of("h-2", 1, model="NVIDIA H100 PCIe"))]
    quota = TenantQuota("a", ("a",), (ClassQuota("H100", guaranteed=Share(whole=1)), ClassQuota("B200")))

    shares = divide([quota, tenant("z", 1)], capacity(several, POLICY), {"z": "namespace z is taken"})

    assert [s.problems for s in shares.tenants] == [
        (
            "model H100 means several classes of cards (NVIDIA H100 80GB HBM3, NVIDIA H100 PCIe): write one of them",
            (
                "no card of model B200 in mode shared is known "
                "(known models: NVIDIA H100 80GB HBM3, NVIDIA H100 PCIe): it counts as none"
            ),
        ),
        ("namespace z is taken",),
    ]
    assert all(s.parts == () for s in shares.tenants)


def test_a_vendor_without_cards_is_named() -> None:
    quota = TenantQuota("a", ("a",), (ClassQuota("H100", vendor="nvidea"),))

    (share,) = divide([quota], capacity([h100_node()], POLICY)).tenants

    known = "(known models: NVIDIA H100 80GB HBM3)"
    assert share.problems == (
        f"no card of vendor nvidea of model H100 in mode shared is known {known}: it counts as none",
    )


def test_a_promise_that_another_tenant_may_hold_without_a_limit_becomes_a_sentence() -> None:
    by_memory = TenantQuota("m", ("m",), (ClassQuota("H100", guaranteed=Share(memory_mib=1000)),))
    nothing = TenantQuota("n", ("n",), (ClassQuota("H100", guaranteed=Share(memory_mib=0)),))
    cards = TenantQuota("c", ("c",), (ClassQuota("H100", guaranteed=Share(whole=1)),))
    found = capacity([h100_node()], POLICY)

    beside, alone = divide([by_memory, nothing, cards], found), divide([nothing, cards], found)

    words = "cores and cards"
    sentence = (
        f"{words} of NVIDIA H100 80GB HBM3 may not come back: tenant m may hold all of this, because "
        f"its guaranteed leaves {words} out: write {words} there, or leave {words} out here"
    )
    assert {share.tenant.name: share.problems for share in beside.tenants} == {"c": (sentence,), "m": (), "n": ()}
    assert [share.problems for share in alone.tenants] == [(), ()]


def test_two_entries_that_mean_one_class_are_distinguished_from_one() -> None:
    quota = TenantQuota("a", ("a",), (ClassQuota("H100"), ClassQuota("HBM3")))

    shares = divide([quota], capacity([h100_node()], POLICY))

    assert shares.tenants[0].problems == (
        "model HBM3 means NVIDIA H100 80GB HBM3, as an entry before it does: merge the two",
    )


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1000)), st.integers(0, 2000))
def test_largest_remainder_hands_out_all_there_is_and_no_more_than_was_asked(wanted: dict[str, int], most: int) -> None:
    kept = largest_remainder(wanted, most)

    assert kept.keys() == wanted.keys()
    assert all(0 <= kept[name] <= wanted[name] for name in wanted)
    assert sum(kept.values()) == min(sum(wanted.values()), most)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), unique_by=lambda each: each[0]),
    st.integers(0, 6),
)
def test_never_is_more_promised_than_the_cards_give_and_the_order_of_tenants_is_nothing(
    promised: list[tuple[str, int]], cards: int
) -> None:
    found = capacity([h100_node(cards=cards)], POLICY)
    tenants = [tenant(name, count) for name, count in promised]

    shares = divide(tenants, found)

    assert divide(tenants[::-1], found) == shares
    for key, rest in shares.rest:
        for dimension in DIMENSIONS:
            given_ = sum(p.guaranteed.of(dimension) or 0 for s in shares.tenants for p in s.parts)
            assert given_ + getattr(rest, dimension) == getattr(found[key].total, dimension)


def test_lost_capacity_counts_for_a_while_and_new_capacity_at_once() -> None:
    four, three, five = (capacity([h100_node(cards=n)], POLICY) for n in (4, 3, 5))
    damper = PeakWindow(15.0).after(0.0, four)

    damper = damper.after(100.0, three)
    assert (damper.capacity[H100].total, damper.settles_at(100.0)) == (whole(4), 115.0)
    assert damper.after(114.9, three).capacity[H100].total == whole(4)
    assert damper.after(115.0, three).capacity[H100].total == whole(3)

    grown = damper.after(101.0, five)
    assert (grown.capacity[H100].total, grown.after(116.0, five).settles_at(116.0)) == (whole(5), None)


def test_a_card_that_flaps_never_shrinks_the_quota() -> None:
    four, three = (capacity([h100_node(cards=n)], POLICY) for n in (4, 3))
    damper = PeakWindow(15.0)

    for second in range(0, 120, 10):
        damper = damper.after(float(second), three if second % 20 else four)
        assert damper.capacity[H100].total == whole(4)


def test_a_class_whose_last_node_is_gone_keeps_its_name_with_nothing() -> None:
    damper = PeakWindow(0.0).after(0.0, capacity([h100_node()], POLICY)).after(1.0, {}).after(2.0, {})

    assert damper.capacity == {H100: ClassCapacity(Amount(), whole(1), H100_MIB, H100_MIB, 0)}


def astuple(amount: Amount) -> tuple[int, int, int]:
    return (amount.memory_mib, amount.cores, amount.cards)
