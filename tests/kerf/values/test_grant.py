"""What a pod holds of a card is Kubernetes' effective-request rule, card by card."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from kerf.values.ask import Stage, Stages
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice, card_uses

CARDS = ("GPU-0", "GPU-1", "GPU-2")


@st.composite
def pods(draw: st.DrawFn) -> tuple[Grant, Stages]:
    """A pod of up to six containers, init containers and sidecars first, whose grants share three cards."""
    initial = draw(st.lists(st.sampled_from([Stage.INIT, Stage.SIDECAR]), max_size=4))
    stages = tuple((f"c{i}", stage) for i, stage in enumerate([*initial, *[Stage.APP] * draw(st.integers(1, 3))]))
    held = [
        ContainerGrant(
            name,
            tuple(
                Slice(card, "nvidia", draw(st.integers(0, 100)), draw(st.integers(0, 100)))
                for card in draw(st.lists(st.sampled_from(CARDS), unique=True))
            ),
        )
        for name, _ in stages
    ]
    return Grant(tuple(draw(st.permutations(held)))), stages


def moments(stages: Stages) -> Iterator[set[str]]:
    """Which containers run together, at every moment of a pod's life, in the order Kubernetes starts them."""
    sidecars: set[str] = set()
    for name, stage in stages:
        if stage is Stage.INIT:
            yield {*sidecars, name}
        if stage is Stage.SIDECAR:
            sidecars.add(name)
            yield set(sidecars)
    yield sidecars | {name for name, stage in stages if stage is Stage.APP}


def lived(grant: Grant, stages: Stages) -> dict[str, CardUse]:
    """The largest use of each card over all moments: the rule by brute force."""
    worst: dict[str, CardUse] = {}
    for running in moments(stages):
        for card in CARDS:
            held = [s for name in sorted(running) for s in grant.of(name) if s.card == card]
            if held:
                use = CardUse(sum(s.memory_mib for s in held), sum(s.cores for s in held), len(held))
                worst[card] = worst.get(card, CardUse()).peak(use)
    return worst


@given(pods())
def test_a_card_is_charged_what_the_pods_worst_moment_needs(pod: tuple[Grant, Stages]) -> None:
    grant, stages = pod

    assert card_uses(grant, stages) == lived(grant, stages)


def test_sidecars_run_beside_the_init_containers_after_them_only() -> None:
    stages = (("early", Stage.INIT), ("proxy", Stage.SIDECAR), ("late", Stage.INIT), ("main", Stage.APP))
    grant = Grant(
        tuple(
            ContainerGrant(name, (Slice("GPU-0", "nvidia", memory, 10),))
            for name, memory in (("early", 5000), ("proxy", 1000), ("late", 3000), ("main", 2000))
        )
    )

    # early alone 5,000; proxy + late 4,000; proxy + main 3,000. Two run at once, each with 10 cores.
    assert card_uses(grant, stages) == {"GPU-0": CardUse(memory_mib=5000, cores=20, slots=2)}


def test_a_container_that_is_not_listed_counts_as_an_app() -> None:
    grant = Grant((ContainerGrant("ghost", (Slice("GPU-0", "nvidia", 10, 1),)),))

    assert card_uses(grant, ()) == {"GPU-0": CardUse(10, 1, 1)}


def test_uses_add_subtract_and_peak_by_dimension() -> None:
    one, two = CardUse(10, 50, 1), CardUse(20, 30, 2)

    assert (one + two, (one + two) - two, one.peak(two)) == (CardUse(30, 80, 3), one, CardUse(20, 50, 2))


def test_a_grant_without_slices_is_no_grant() -> None:
    assert not Grant((ContainerGrant("main", ()),))
    assert Grant((ContainerGrant("main", (Slice("GPU-0", "nvidia", 0, 0),)),))
    assert Grant().of("main") == ()
