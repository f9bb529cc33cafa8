"""In which mode a card is: what the pool asks for, where it can be had, and never under a pod's feet."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.modes import GRACE_S, CardMode, Decision, Seen, Wish, decide
from kerf.testing.builders import H100_MIB, a_card
from kerf.values.device import Backend, Mode
from kerf.values.health import Health, State
from kerf.values.mps import MOST_CLIENTS, SERVER_MIB, Daemon, DaemonState, MpsReport
from kerf.values.policy import MpsDaemon, PoolMode

MPS, AUTO = Wish(PoolMode.MPS), Wish(PoolMode.AUTO)
TOGETHER = Wish(PoolMode.MPS, MpsDaemon.NODE)
CARDS = (a_card(id="GPU-0"), a_card(id="GPU-1", index=1))
NOBODY: frozenset[str] = frozenset()
BOTH = decide(CARDS, TOGETHER, Seen(MpsReport(), {}, None, 0)).daemons[0]
"""The daemon of both cards."""


def runs(*names: str) -> MpsReport:
    return MpsReport(100, "", tuple(DaemonState(name, True) for name in names))


def after(wish: Wish, report: MpsReport, held: frozenset[str] | None = NOBODY, **more: Any) -> Decision:
    modes, now = more.get("modes", {}), more.get("now", 100)
    return decide(more.get("cards", CARDS), wish, Seen(report, modes, held, now), more.get("known", ()))


def shared(decision: Decision) -> dict[str, str]:
    return {card: mode.daemon for card, mode in decision.modes.items()}


def test_without_a_wish_cards_are_shared_by_the_limiter():
    assert after(Wish(), runs()) == Decision(dict.fromkeys(("GPU-0", "GPU-1"), CardMode()), (), asks=False)


def test_each_card_gets_its_own_daemon_and_changes_once_that_runs():
    asked = after(MPS, MpsReport(100))
    changed = after(MPS, runs("GPU-0"), modes=asked.modes)

    assert asked.daemons == (Daemon("GPU-0", ("GPU-0",)), Daemon("GPU-1", ("GPU-1",)))
    assert shared(asked) == {"GPU-0": "", "GPU-1": ""}
    assert asked.modes["GPU-0"].note == "its pool asks for mode mps: its MPS daemon starts"
    assert shared(changed) == {"GPU-0": "GPU-0", "GPU-1": ""}
    assert changed.modes["GPU-0"] == CardMode("GPU-0", Backend.MPS, joint=False)


def test_a_card_that_a_pod_holds_keeps_its_mode_and_says_what_it_waits_for():
    found = after(MPS, runs("GPU-0", "GPU-1"), frozenset({"GPU-0"}))

    assert shared(found) == {"GPU-0": "", "GPU-1": "GPU-1"}
    assert found.modes["GPU-0"].note == (
        "its pool asks for mode mps: it changes once no pod holds a slice of the cards that change with it"
    )


def test_the_cards_of_one_daemon_change_together():
    waiting, free = (after(TOGETHER, runs(BOTH.name), held) for held in (frozenset({"GPU-1"}), NOBODY))

    assert shared(waiting) == {"GPU-0": "", "GPU-1": ""}
    assert shared(free) == {"GPU-0": BOTH.name, "GPU-1": BOTH.name}
    assert all(mode.joint for mode in free.modes.values())


def test_they_leave_it_together_too_and_it_runs_until_they_have():
    modes = dict.fromkeys(("GPU-0", "GPU-1"), CardMode(BOTH.name, Backend.MPS))

    kept = after(Wish(), runs(BOTH.name), frozenset({"GPU-0"}), modes=modes, known=(BOTH,))
    left = after(Wish(), runs(BOTH.name), NOBODY, modes=modes, known=(BOTH,))

    assert (shared(kept), kept.daemons) == ({"GPU-0": BOTH.name, "GPU-1": BOTH.name}, (BOTH,))
    assert (shared(left), left.daemons) == ({"GPU-0": "", "GPU-1": ""}, ())


def test_a_card_that_comes_later_does_not_touch_the_daemon_that_pods_use():
    modes = dict.fromkeys(("GPU-0", "GPU-1"), CardMode(BOTH.name, Backend.MPS))
    three = (*CARDS, a_card(id="GPU-2", index=2))

    found = after(TOGETHER, runs(BOTH.name), frozenset({"GPU-0"}), modes=modes, known=(BOTH,), cards=three)

    assert shared(found) == {"GPU-0": BOTH.name, "GPU-1": BOTH.name, "GPU-2": ""}
    assert BOTH in found.daemons


@pytest.mark.parametrize(
    ("wish", "problem"), [(AUTO, ""), (MPS, "its pool asks for mode mps: no such program")], ids=["auto", "mps"]
)
def test_where_mps_cannot_be_had_auto_shares_by_the_limiter_and_mps_gives_no_slices(wish: Wish, problem: str):
    found = after(wish, MpsReport(100, "no such program"))

    assert (shared(found), found.daemons) == ({"GPU-0": "", "GPU-1": ""}, ())
    assert found.modes["GPU-0"].note.endswith("and mps cannot be had: no such program")
    assert found.modes["GPU-0"].problem == problem


def test_hardware_that_cannot_do_it_says_so():
    old = replace(CARDS[0], no_mps="it is older than Volta")

    found = after(AUTO, runs("GPU-1"), cards=(old, CARDS[1]))

    assert shared(found) == {"GPU-0": "", "GPU-1": "GPU-1"}
    assert "it is older than Volta" in found.modes["GPU-0"].note


def test_a_card_whose_daemon_fell_takes_no_slices_until_it_runs_again():
    modes = {"GPU-0": CardMode("GPU-0", Backend.MPS, joint=False)}
    fallen = MpsReport(100, "", (DaemonState("GPU-0", False, "it ended with status 1"),))

    down = after(MPS, fallen, frozenset({"GPU-0"}), modes=modes, cards=CARDS[:1])
    card = down.modes["GPU-0"].applied(CARDS[0])
    up = after(MPS, runs("GPU-0"), frozenset({"GPU-0"}), modes=down.modes, cards=CARDS[:1], now=130)

    assert (card.mode, card.health) == (
        Mode.MPS,
        Health(State.SUSPECT, "its MPS daemon does not run: it ended with status 1", 100),
    )
    assert up.modes["GPU-0"] == CardMode("GPU-0", Backend.MPS, joint=False)


def test_an_empty_card_leaves_mps_only_after_its_supervisor_was_away_for_a_while():
    modes = {"GPU-0": CardMode("GPU-0", Backend.MPS, joint=False)}
    gone = MpsReport(problem="no supervisor")
    known = (Daemon("GPU-0", ("GPU-0",)),)

    soon = after(AUTO, gone, modes=modes, cards=CARDS[:1], known=known)
    later = after(AUTO, gone, modes=soon.modes, cards=CARDS[:1], known=known, now=100 + GRACE_S)

    assert (shared(soon), soon.daemons) == ({"GPU-0": "GPU-0"}, known)
    assert shared(later) == {"GPU-0": ""}
    assert "and mps cannot be had: no supervisor" in later.modes["GPU-0"].note


def test_a_card_in_mig_mode_is_left_alone():
    mig = a_card(id="GPU-0", mode=Mode.MIG)

    assert after(MPS, runs("GPU-0"), cards=(mig,)) == Decision({}, (), asks=False)
    assert CardMode("GPU-0", Backend.MPS).applied(mig) == mig


def test_a_shared_card_gives_what_its_server_leaves_and_no_more_slots_than_the_daemon_has_clients():
    card = CardMode("GPU-0", Backend.MPS, joint=False).applied(a_card(slots=100))

    assert (card.mode, card.backend, card.joint, card.slots) == (Mode.MPS, Backend.MPS, False, MOST_CLIENTS)
    assert (card.memory_mib, card.reserved_mib) == (H100_MIB - SERVER_MIB, SERVER_MIB)


def test_a_fault_of_the_hardware_outweighs_the_daemons():
    ill = Health(State.CORDONED, "XID 79", 5)

    assert CardMode("GPU-0", Backend.MPS, problem="down", since=9).applied(a_card(health=ill)).health == ill


@given(
    wish=st.builds(Wish, st.sampled_from(PoolMode), st.sampled_from(MpsDaemon)),
    held=st.none() | st.frozensets(st.sampled_from(("GPU-0", "GPU-1"))),
    report=st.sampled_from((runs(), runs("GPU-0"), runs("GPU-0", "GPU-1", BOTH.name), MpsReport(problem="none"))),
    names=st.lists(st.sampled_from(("", "GPU-0", "GPU-1", BOTH.name)), min_size=2, max_size=2),
)
def test_no_card_changes_under_a_pod_and_every_daemon_in_use_is_wanted(
    wish: Wish, held: frozenset[str] | None, report: MpsReport, names: list[str]
):
    modes = {card.id: CardMode(name) for card, name in zip(CARDS, names, strict=True)}
    known = (Daemon("GPU-0", ("GPU-0",)), Daemon("GPU-1", ("GPU-1",)), BOTH)

    found = after(wish, report, held, modes=modes, known=known, now=GRACE_S * 9)

    changed = {card for card in modes if found.modes[card].daemon != modes[card].daemon}
    assert not changed & (changed if held is None else held)
    assert {mode.daemon for mode in found.modes.values()} - {""} <= {daemon.name for daemon in found.daemons}
    if held is None and not found.asks:  # nothing would change if it were known that no card is held
        again = after(wish, report, NOBODY, modes=modes, known=known, now=GRACE_S * 9)
        assert shared(again) == shared(found)
