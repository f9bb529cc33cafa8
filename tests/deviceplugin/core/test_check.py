"""The start check: the node has the last word."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.check import LivePod, check_ask, check_start
from deviceplugin.core.refusal import StartRefusal, Why
from kerf.testing.builders import a_card, a_container, a_pod
from kerf.values.ask import Stage
from kerf.values.device import Card
from kerf.values.grant import NO_USE, ContainerGrant, Grant, Holding, Slice, card_uses
from kerf.values.health import SUSPECT
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES

CARDS = {"GPU-0": a_card(0, memory_mib=80_000), "GPU-1": a_card(1, memory_mib=80_000)}


def a_live_pod(
    name: str, mib: int, cores: int = 10, *, card: str = "GPU-0", started: bool = False, at: str = "1"
) -> LivePod:
    grant = Grant((ContainerGrant("main", (Slice(card, "nvidia", mib, cores),)),))
    return LivePod(Holding(f"team/{name}", name, "node-1", grant, (("main", Stage.APP),)), started, (at, at, name))


@pytest.mark.parametrize(
    ("pod", "others", "message"),
    [
        pytest.param(a_live_pod("p", 30_000), [a_live_pod("q", 50_000, at="0")], None, id="exactly full"),
        pytest.param(
            a_live_pod("p", 30_001),
            [a_live_pod("q", 50_000, at="0")],
            "pod team/p was granted 30,001 MiB of card GPU-0, but 50,000 of its 80,000 are held (team/q): "
            "30,000 are free",
            id="one MiB too much",
        ),
        pytest.param(a_live_pod("p", 30_001, at="0"), [a_live_pod("q", 50_000)], None, id="bound before the other"),
        pytest.param(
            a_live_pod("p", 30_001, at="0"),
            [a_live_pod("q", 50_000, started=True)],
            "pod team/p was granted 30,001 MiB of card GPU-0, but 50,000 of its 80,000 are held (team/q): "
            "30,000 are free",
            id="bound before one that runs already",
        ),
        pytest.param(
            a_live_pod("p", 30_001, started=True),
            [a_live_pod("q", 50_000, at="0")],
            None,
            id="runs already, the other not",
        ),
        pytest.param(a_live_pod("p", 80_000), [a_live_pod("q", 80_000, card="GPU-1", at="0")], None, id="another card"),
        pytest.param(
            a_live_pod("p", 1, 60),
            [a_live_pod("q", 1, 50, at="0")],
            "pod team/p was granted 60 % of its cores of card GPU-0, but 50 of its 100 are held (team/q): 50 are free",
            id="cores",
        ),
        pytest.param(
            a_live_pod("p", 1, 0),
            [a_live_pod("q", 1, 100, at="0")],
            "pod team/p: card GPU-0 is granted to pod team/q alone and to 1 more pods",
            id="beside one that has the card for itself",
        ),
        pytest.param(
            a_live_pod("p", 1, card="GPU-9"),
            [],
            "pod team/p was granted card GPU-9, which this node lacks",
            id="a card the node lacks",
        ),
        pytest.param(
            a_live_pod("p", 80_001),
            [],
            "pod team/p: a slice of 80,001 MiB is larger than card GPU-0 (80,000 MiB)",
            id="larger than the card",
        ),
    ],
)
def test_a_pod_starts_or_is_refused_with_the_numbers(pod: LivePod, others: list[LivePod], message: str | None):
    refusal = check_start(pod, tuple(others), CARDS)

    assert message == (refusal.message if refusal else None)


def test_slots_run_out_at_the_cards_number():
    cards = {"GPU-0": a_card(0, slots=2)}
    others = (a_live_pod("q", 1, 1, at="0"), a_live_pod("r", 1, 1, at="0"))

    refusal = check_start(a_live_pod("p", 1, 1), others, cards)

    message = "pod team/p was granted 1 slots of card GPU-0, but 2 of its 2 are held (team/q, team/r): 0 are free"
    assert StartRefusal(Why.OVERCOMMIT, message, lasting=False) == refusal


def test_a_sick_card_takes_no_new_pod_but_lets_a_running_one_restart():
    cards = {"GPU-0": replace(CARDS["GPU-0"], health=SUSPECT)}

    refusal = check_start(a_live_pod("p", 1), (), cards)
    assert (
        StartRefusal(Why.UNHEALTHY, "card GPU-0, granted to pod team/p, is unhealthy (suspect)", lasting=False)
        == refusal
    )
    assert check_start(a_live_pod("p", 1, started=True), (), cards) is None


def test_over_commitment_lets_pods_share_more_than_the_hardware_but_no_slice_beyond_it():
    cards = {"GPU-0": a_card(0, memory_mib=80_000).overcommitted(1.5, 2.0)}
    others = (a_live_pod("q", 80_000, 100, at="0"),)

    assert check_start(a_live_pod("p", 40_000, 100), others, cards) is None
    assert check_start(a_live_pod("p", 40_001, 100), others, cards) is not None
    assert check_start(a_live_pod("p", 80_001, 1), (), cards) is not None


@pytest.mark.parametrize("started", [True, False])
def test_a_grant_of_all_that_the_driver_reports_is_the_whole_card(started: bool):
    """It was written before the driver's part was known, and its container restarts."""
    cards = {"GPU-0": a_card(0, memory_mib=79_520, reserved_mib=480)}
    pod = a_pod(containers=[a_container(mem=80_000, cores=100)])
    live = a_live_pod("p", 80_000, 100, started=started)

    assert check_ask(pod["spec"], live.holding, cards, NAMES, Defaults()) is None
    assert check_start(live, (), cards) is None
    assert check_start(a_live_pod("q", 80_001, 100), (), cards) is not None


def test_init_containers_count_by_the_effective_rule():
    # max(50,000 main + 10,000 sidecar, 60,000 init + 10,000 sidecar before it) = 70,000
    grant = Grant(
        tuple(
            ContainerGrant(name, (Slice("GPU-0", "nvidia", mib, 0),))
            for name, mib in (("side", 10_000), ("init", 60_000), ("main", 50_000))
        )
    )
    stages = (("side", Stage.SIDECAR), ("init", Stage.INIT), ("main", Stage.APP))
    pod = LivePod(Holding("team/p", "p", "n", grant, stages), False, ("1", "1", "p"))

    assert check_start(pod, (a_live_pod("q", 10_000, 0, at="0"),), CARDS) is None
    assert check_start(pod, (a_live_pod("q", 10_001, 0, at="0"),), CARDS) is not None


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        pytest.param([("main", 8000, 30)], None, id="exactly what was asked"),
        pytest.param([("main", 7000, 10)], None, id="less than was asked"),
        pytest.param(
            [("main", 8001, 30)],
            "pod default/pod-1: container main asks for 8,000 MiB and 30 % of the cores a card and was granted "
            "8,001 MiB and 30 % of the cores of GPU-0",
            id="more memory",
        ),
        pytest.param(
            [("main", 8000, 30), ("ghost", 1, 1)],
            "pod default/pod-1: its grant names container ghost, which it does not have",
            id="a container the pod lacks",
        ),
        pytest.param(
            [("other", 8000, 30)],
            "container main of pod default/pod-1 asks for 1 cards and its grant holds none for it",
            id="nothing for the container that asks",
        ),
    ],
)
def test_a_grant_answers_the_pods_own_limits(slices: list[tuple[str, int, int]], message: str | None):
    grant = Grant(tuple(ContainerGrant(n, (Slice("GPU-0", "nvidia", mib, cores),)) for n, mib, cores in slices))
    pod = a_pod(containers=[a_container("main", mem=8000, cores=30), {"name": "plain", "image": "app"}])
    holding = Holding("default/pod-1", "u", "n", grant)

    refusal = check_ask(pod["spec"], holding, CARDS, NAMES, Defaults())

    assert message == (refusal.message if refusal else None)


live_pods = st.builds(
    lambda i, mib, cores, card, at: a_live_pod(f"p{i}", mib, cores, card=f"GPU-{card}", at=str(at)),
    st.integers(0, 10_000),
    st.integers(0, 80_000),
    st.integers(0, 100),
    st.integers(0, 1),
    st.integers(0, 5),
)


@given(st.lists(live_pods, max_size=12, unique_by=lambda pod: pod.holding.uid), st.randoms(use_true_random=False))
def test_in_any_order_of_starts_and_restarts_no_card_ever_holds_more_than_it_has(pods: list[LivePod], rng):
    started: dict[str, LivePod] = {}
    for pod in [rng.choice(pods) for _ in range(3 * len(pods))]:
        now = [replace(p, started=p.holding.uid in started) for p in pods]
        own = next(p for p in now if p.holding.uid == pod.holding.uid)
        others = tuple(p for p in now if p.holding.uid != pod.holding.uid)
        refusal = check_start(own, others, CARDS)
        assert not (own.started and refusal), "a pod that runs is never refused"
        if refusal is None:
            started[pod.holding.uid] = pod
        assert_fits(list(started.values()), CARDS)


@given(st.lists(live_pods, min_size=1, max_size=8, unique_by=lambda pod: pod.holding.uid))
def test_the_first_bound_pod_that_fits_alone_is_admitted_beside_any_others(pods: list[LivePod]):
    first = min(pods, key=lambda pod: pod.order)

    assert check_start(first, tuple(p for p in pods if p is not first), CARDS) is None


def assert_fits(pods: list[LivePod], cards: dict[str, Card]) -> None:
    for card_id, card in cards.items():
        uses = [card_uses(p.holding.grant, p.holding.stages).get(card_id, NO_USE) for p in pods]
        total = sum(uses, NO_USE)
        assert total.memory_mib <= card.memory_mib
        assert total.cores <= card.cores
        assert total.slots <= card.slots
