"""The cost of a placement, with the arithmetic beside it."""

import numpy as np
import pytest

from kerf.testing.builders import a_pod_ask, an_ask
from kerf.values.device import Card
from kerf.values.grant import CardUse
from kerf.values.node import Node
from scheduler.core.bulk import Wanted, charged
from scheduler.policies.fragmentation import Lens, compile_lens, cost, price, survey, window
from scheduler.policies.sights import Sight
from scheduler.policies.workload import WHOLE, Kind, Target
from scheduler.state.fleet import Fleet

CARD = Card("a-0", 0, "nvidia", "A", memory_mib=1000)
WHOLE_CARD = Kind(1000, 1, -1, 100, 100)


def a_row(*used: int, cpu: int = 100_000) -> Fleet:
    """One node with a card per number, of whose 1,000 MiB and cores as many thousandths are held."""
    fleet = Fleet()
    cards = tuple(Card(f"a-{i}", i, "nvidia", "A", memory_mib=1000) for i in range(len(used)))
    fleet.put_node(Node("a", cards, cpu_milli=cpu))
    for i, amount in enumerate(used):
        if amount:
            fleet.charge("a", {f"a-{i}": CardUse(amount, amount // 10, 1)}, 0, 0)
    return fleet


def a_lens(*kinds: tuple[Kind, int]) -> Lens:
    return compile_lens(Target(tuple(sorted(kinds))), (Sight(CARD),), (8,))


def prices(fleet: Fleet, lens: Lens, memory_mib: int) -> list[int]:
    columns = fleet.columns.take(np.array([fleet.row("a")]))
    fits = columns.present & (columns.memory - columns.used_memory >= memory_mib)
    want = Wanted(1, columns.present, memory_mib, memory_mib // 10)
    return price(want, 0, columns, fits, survey(columns, lens), lens)[0, : int(columns.present.sum())].tolist()


def test_breaking_a_whole_card_costs_the_rest_of_it():
    # Only whole cards come. On the empty card, 1,000 useful thousandths are lost and 200 of them are the slice itself:
    # 800, and the hole of 80 % is worth nothing to whole cards, the card was worth 1,000 of which the slice's least
    # loss is 0: 1,000 more. On the card that is open already nothing useful is lost: -200.
    assert prices(a_row(0, 500), a_lens((WHOLE_CARD, WHOLE)), 200) == [1800, -200]


def test_a_hole_that_the_workload_fills_costs_nothing():
    # Halves come; half a card placed beside another half destroys as much useful space as it takes: 0.
    half = Kind(1000, 1, -1, 50, 50)

    assert prices(a_row(0, 500), a_lens((half, WHOLE)), 500) == [0, 0]


def test_cpu_that_lasts_for_one_pod_makes_the_second_card_half_useful():
    # One card's worth of CPU for two empty cards: 2,000 free count half, the 1,000 with CPU count half.
    fleet = a_row(0, 0, cpu=1000)
    columns = fleet.columns.take(np.array([fleet.row("a")]))

    assert survey(columns, a_lens((WHOLE_CARD, WHOLE))).useful.tolist() == [(2000 + 1000) * WHOLE]


def test_the_cost_of_a_change_is_the_price_of_its_slice():
    fleet = a_row(0, 500)
    lens = a_lens((WHOLE_CARD, WHOLE // 2), (Kind(500, 1, 300, 0, 30), WHOLE // 2))
    before = fleet.columns.take(np.array([fleet.row("a")]))
    taken = np.zeros_like(before.present)
    taken[0, 1] = True

    after = charged(Wanted(1, taken, 200, 20), before, taken)

    useful = survey(before, lens).useful
    assert cost(before, after, useful, lens).tolist() == [prices(fleet, lens, 200)[1]]


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (a_pod_ask("p", an_ask(cores=30)), 30),
        (a_pod_ask("p", an_ask(cores=100)), 60),
        (a_pod_ask("p", an_ask(cards=2)), 60),
    ],
)
def test_the_window_depends_on_how_much_is_asked(ask: object, expected: int) -> None:
    assert window(ask) == expected
