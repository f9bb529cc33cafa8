"""Which cards claims are offered, in which order, and in whose hands a card is."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.hands import next_hands, wants_change
from deviceplugin.core.offered import NodeView, offered, taints_of
from kerf.testing.builders import a_card
from kerf.values.allocator import Allocator
from kerf.values.grant import CardUse
from kerf.values.health import Health, State
from kerf.values.offer import DeviceTaint
from kerf.values.policy import Defaults, SchedulingPolicy
from kerf.values.recovery import RecoveryMode

LOST = Health(State.CORDONED, "Xid 79", moves=True)
EXTENDER, DRA, NONE = Allocator


def cards(*hands):
    return [a_card(i, allocator=hand) for i, hand in enumerate(hands)]


def order(policy, **held):
    uses = {f"GPU-{name[1:]}": CardUse(mib, 0, 1) for name, mib in held.items()}
    return [each.card.index for each in offered(cards(DRA, DRA, EXTENDER, DRA, NONE), uses, NodeView(), policy)]


def test_the_fullest_card_comes_first_or_the_emptiest_with_spread():
    assert order(SchedulingPolicy(), c1=9000, c3=20_000) == [3, 1, 0]
    assert order(SchedulingPolicy(cards=("spread",)), c1=9000, c3=20_000) == [0, 1, 3]


def test_an_ask_without_memory_gets_the_policys_default_or_one_slots_part():
    def default(policy):
        return offered(cards(DRA), {}, NodeView(), policy)[0].default_mib

    assert default(SchedulingPolicy()) == 8155
    assert default(SchedulingPolicy(defaults=Defaults(memory_mib=4000))) == 4000


def test_a_fault_keeps_claims_away_and_evicts_only_what_it_lost_where_recovery_moves_tenants():
    lost, suspect = a_card(health=LOST), a_card(health=Health(State.SUSPECT, "no word"))
    recover = NodeView(mode=RecoveryMode.RECOVER)

    assert taints_of(lost, recover) == (DeviceTaint("gpu.kerf.dev/fault", "cordoned", "NoExecute"),)
    assert taints_of(lost, NodeView()) == (DeviceTaint("gpu.kerf.dev/fault", "cordoned", "NoSchedule"),)
    assert taints_of(lost, replace(recover, evicts=False))[0].effect == "NoSchedule"
    assert taints_of(suspect, recover) == (DeviceTaint("gpu.kerf.dev/fault", "suspect", "NoSchedule"),)
    assert taints_of(a_card(), NodeView(cordoned=("GPU-0",))) == (DeviceTaint("gpu.kerf.dev/cordon", "", "NoSchedule"),)


def step(now, target, held=(), settled=False):
    return next_hands(["c"], {"c": now}, target, {"c": frozenset(held)}, frozenset("c" if settled else ""))["c"]


def test_a_free_card_changes_hands_after_a_pause_in_which_neither_offers_it():
    assert [step(EXTENDER, DRA), step(NONE, DRA), step(NONE, DRA, settled=True)] == [NONE, NONE, DRA]
    assert [step(DRA, EXTENDER), step(NONE, EXTENDER, settled=True)] == [NONE, EXTENDER]


def test_a_card_that_is_held_stays_with_the_allocator_that_gave_it():
    assert [step(hand, DRA, {EXTENDER}, settled=True) for hand in (EXTENDER, NONE)] == [EXTENDER, EXTENDER]
    assert [step(hand, EXTENDER, {DRA}, settled=True) for hand in (DRA, NONE)] == [DRA, DRA]
    assert step(DRA, DRA, {DRA, EXTENDER}) is NONE


@given(st.lists(st.tuples(st.sampled_from([EXTENDER, DRA]), st.sets(st.sampled_from([EXTENDER, DRA])), st.booleans())))
def test_a_card_never_goes_from_one_allocator_to_the_other_without_a_pause_unless_that_one_gave_it(rounds):
    now = EXTENDER
    for target, held, settled in rounds:
        after = step(now, target, held, settled)
        if {now, after} == {EXTENDER, DRA}:
            assert held == {after}
        now = after


def test_nothing_is_asked_of_the_cluster_while_every_card_is_where_it_belongs():
    assert not wants_change(["a", "b"], {"a": EXTENDER}, EXTENDER)
    assert wants_change(["a", "b"], {"a": DRA}, DRA)
