"""One slice and one card: every reason, its numbers, and their order."""

from typing import Any

import pytest

from kerf.testing.builders import a_card, an_ask
from kerf.values.ask import Selection
from kerf.values.device import Mode
from kerf.values.grant import NO_USE, CardUse
from kerf.values.verdict import FIT, Misfit, Reason, Verdict
from scheduler.core.fit import fit, fit_alone
from scheduler.core.state import CardState, NodeState

ANY = Selection()


def state(used: CardUse = NO_USE, usable: bool = True, **card: Any) -> CardState:
    return CardState(a_card(**{"memory_mib": 10_000, **card}), used, usable)


@pytest.mark.parametrize(
    ("ask", "held", "verdict"),
    [
        pytest.param({"memory_mib": 10_000}, state(), FIT, id="the whole card fits on an empty card"),
        pytest.param({"memory_mib": 10_001}, state(), (Reason.TOO_LARGE, 10_001, 10_000), id="larger than hardware"),
        pytest.param(
            {"memory_mib": 10_001},
            state(memory_mib=20_000, physical_mib=10_000),
            (Reason.TOO_LARGE, 10_001, 10_000),
            id="a slice is never larger than the hardware, however far it is over-committed",
        ),
        pytest.param(
            {"memory_percent": 50},
            state(CardUse(10_000, 0, 1), memory_mib=20_000, physical_mib=10_000),
            FIT,
            id="percent means the hardware, over-commitment only says how much may be granted",
        ),
        pytest.param({"memory_mib": 2000}, state(CardUse(9000, 0, 1)), (Reason.MEMORY, 2000, 1000), id="memory"),
        pytest.param(
            {"memory_mib": 1}, state(CardUse(11_000, 0, 1)), (Reason.MEMORY, 1, 0), id="shrunk under a tenant"
        ),
        pytest.param({"cores": 50}, state(CardUse(1, 60, 1)), (Reason.CORES, 50, 40), id="cores"),
        pytest.param({}, state(CardUse(1, 1, 10)), (Reason.SLOTS, 1, 0), id="slots"),
        pytest.param(
            {"cores": 100}, state(CardUse(1, 0, 1)), (Reason.EXCLUSIVE, 1, 0), id="alone, but others are there"
        ),
        pytest.param({"cores": 100}, state(CardUse(1, 0, 1), cores=200), FIT, id="over-committed cores are shareable"),
        pytest.param({"cores": 0}, state(CardUse(1, 100, 1)), (Reason.TAKEN, 1, 0), id="all cores are held"),
        pytest.param({"cores": 0}, state(CardUse(1, 99, 1)), FIT, id="best effort beside 99 percent"),
        pytest.param({}, state(usable=False), (Reason.UNHEALTHY, 1, 0), id="unhealthy"),
        pytest.param(
            {"memory_mib": 10_001},
            state(usable=False),
            (Reason.TOO_LARGE, 10_001, 10_000),
            id="what never fits comes first",
        ),
    ],
)
def test_a_slice_on_a_card(ask: dict[str, Any], held: CardState, verdict: Verdict | tuple[Reason, int, int]) -> None:
    found = fit(an_ask(**{"memory_mib": 2000, **ask} if "memory_percent" not in ask else ask), ANY, held)

    assert (found if found is FIT else (found.reason, found.asked, found.free)) == verdict


@pytest.mark.parametrize(
    ("selection", "accepted"),
    [
        (Selection(use_ids=("GPU-0",)), True),
        (Selection(use_ids=("GPU-1",)), False),
        (Selection(avoid_ids=("GPU-0",)), False),
        (Selection(use_types=("h100",)), True),
        (Selection(use_types=("H200", "80gb")), True),
        (Selection(use_types=("a100",)), False),
        (Selection(avoid_types=("hbm3",)), False),
        (Selection(modes=("shared",)), True),
        (Selection(modes=("mig", "mps")), False),
    ],
)
def test_selection_of_cards(selection: Selection, accepted: bool) -> None:
    assert (fit(an_ask(), selection, CardState(a_card(), NO_USE)) is FIT) == accepted


def test_cards_of_another_vendor_are_no_cards() -> None:
    assert fit(an_ask(vendor="amd"), ANY, state()) == Misfit(Reason.TYPE, 1, 0, "NVIDIA H100 80GB HBM3")


def test_mutex_needs_an_empty_card() -> None:
    assert fit(an_ask(), ANY, state(CardUse(1, 1, 1)), mutex=True) == Misfit(Reason.EXCLUSIVE, 1, 0, "GPU-0")


def node(*states: CardState) -> NodeState:
    return NodeState("node-1", states, 0, 0)


@pytest.mark.parametrize(
    ("states", "misfit"),
    [
        pytest.param((), Misfit(Reason.NO_INVENTORY, 2, 0, ""), id="no cards"),
        pytest.param((state(),), Misfit(Reason.TOO_FEW_CARDS, 2, 1, "main"), id="one card where two are asked"),
        pytest.param(
            (state(CardUse(9000, 0, 1)),), Misfit(Reason.TOO_FEW_CARDS, 2, 1, "main"), id="one card, and it is full"
        ),
        pytest.param(
            (state(model="Tesla T4"), state(model="Tesla P4")),
            Misfit(Reason.TYPE, 2, 0, "main"),
            id="no accepted model",
        ),
        pytest.param(
            (state(model="Tesla T4"), state()),
            Misfit(Reason.TOO_FEW_CARDS, 2, 1, "main"),
            id="one of an accepted model",
        ),
        pytest.param(
            (state(memory_mib=900), state(memory_mib=1000)),
            Misfit(Reason.TOO_LARGE, 2000, 900, "main"),
            id="both too small: the smaller one decides what would fit",
        ),
        pytest.param(
            (state(usable=False), state()), Misfit(Reason.UNHEALTHY, 2, 1, "main"), id="one of two is healthy"
        ),
        pytest.param(
            (state(CardUse(8500, 0, 1)), state(CardUse(9000, 0, 1)), state()),
            Misfit(Reason.MEMORY, 2000, 1500, "main"),
            id="memory: the second best card decides",
        ),
        pytest.param(
            (state(CardUse(9000, 0, 1)), state(CardUse(1, 90, 1))),
            Misfit(Reason.MEMORY, 2000, 1000, "main"),
            id="memory comes before cores",
        ),
    ],
)
def test_two_cards_of_one_node(states: tuple[CardState, ...], misfit: Misfit) -> None:
    assert fit_alone(an_ask(cards=2, memory_mib=2000), Selection(use_types=("h100",)), node(*states)) == misfit


def test_a_card_in_another_mode_can_be_selected_away() -> None:
    assert fit_alone(an_ask(), Selection(modes=("shared",)), node(state(mode=Mode.MPS))) == Misfit(
        Reason.TYPE, 1, 0, "main"
    )
