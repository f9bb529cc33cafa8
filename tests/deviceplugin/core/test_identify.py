"""Whose slots, and which container: exact, or refused."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.identify import Held, Recorded, owner_of, owner_uid_of, starts
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.core.slots import TURNS, turn_name, turn_names
from deviceplugin.core.start import Start
from kerf.values.ask import Stage
from kerf.values.grant import ContainerGrant, Grant, Holding, Slice

A, B = ("kerf-1",), ("kerf-2",)


def a_holding(*containers: tuple[str, Stage, int], cards: int = 1, pod: str = "team/pod", uid: str = "u1") -> Holding:
    """A pod whose containers hold (name, stage, MiB) on `cards` cards each."""
    grant = Grant(
        tuple(
            ContainerGrant(name, tuple(Slice(f"GPU-{i}", "nvidia", mib, 10) for i in range(cards)))
            for name, _, mib in containers
        )
    )
    return Holding(pod, uid, "node-1", grant, tuple((name, stage) for name, stage, _ in containers))


def test_the_owner_is_the_pod_that_holds_any_of_the_slots():
    held = (Held("team", "pod", "main", A), Held("team", "other", "main", B))

    assert owner_of(A, held) == ("team", "pod")
    assert owner_of(("kerf-9",), held) is None


def test_slots_that_are_reported_for_two_pods_have_no_owner():
    refusal = owner_of(A, (Held("a", "one", "main", A), Held("b", "two", "main", A)))

    assert (
        StartRefusal(Why.AMBIGUOUS, "the kubelet reports slots kerf-1 for several pods: a/one, b/two", lasting=False)
        == refusal
    )


def test_exact_slots_name_the_container_under_every_name_it_may_have():
    pod = a_holding(("main", Stage.APP, 100), ("second", Stage.APP, 200), ("side", Stage.SIDECAR, 300))
    held = (Held("team", "pod", "main", A), Held("team", "pod", "second", B), Held("team", "pod", "side", ("kerf-3",)))

    assert (Start("second", turn_names(B)),) == starts(B, pod, held, None)


def test_sharers_are_distinguished_by_the_names_the_kubelet_recorded():
    pod = a_holding(("init", Stage.INIT, 100), ("main", Stage.APP, 200))
    held = (Held("team", "pod", "main", A),)
    recorded = (
        Recorded("u1", "init", A, ("kerf-1.2",)),
        Recorded("u1", "main", A, ("kerf-1.3",)),
        Recorded("gone", "main", A, ("kerf-1.1",)),
    )

    assert (Start("init", ("kerf-1.2",)), Start("main", ("kerf-1.3",))) == starts(A, pod, held, recorded)


def test_sharers_of_different_slices_are_refused_where_two_have_one_name():
    pod = a_holding(("init", Stage.INIT, 100), ("main", Stage.APP, 200))
    held = (Held("team", "pod", "main", A),)
    recorded = (Recorded("u1", "init", A, ("kerf-1.0",)), Recorded("u1", "main", A, ("kerf-1.0",)))

    found = starts(A, pod, held, recorded)

    assert isinstance(found, StartRefusal)
    assert Why.AMBIGUOUS is found.why


def test_an_init_container_that_was_given_other_slots_is_not_in_the_way():
    pod = a_holding(("init", Stage.INIT, 100), ("main", Stage.APP, 200))
    held = (Held("team", "pod", "main", A),)
    recorded = (Recorded("u1", "init", B, ("kerf-2.0",)), Recorded("u1", "main", A, ("kerf-1.0",)))

    assert (Start("main", turn_names(A)),) == starts(A, pod, held, recorded)
    assert (Start("init", turn_names(B)),) == starts(B, pod, held, recorded)


def test_a_pod_of_the_same_name_does_not_inherit_its_predecessors_slots():
    pod = a_holding(("main", Stage.APP, 100), uid="new")
    held = (Held("team", "pod", "main", A),)

    found = starts(A, pod, held, (Recorded("old", "main", A, ("kerf-1.0",)),))

    assert isinstance(found, StartRefusal)
    assert Why.UNKNOWN_POD is found.why


def test_fewer_cards_granted_than_slots_given_is_refused():
    pod = a_holding(("main", Stage.APP, 100), cards=2)

    found = starts(A, pod, (Held("team", "pod", "main", A),), None)

    message = "container main of pod team/pod was granted 2 cards, the kubelet gave it 1 slots"
    assert StartRefusal(Why.BAD_GRANT, message) == found


def test_the_checkpoint_finds_a_live_pod_by_uid_and_ignores_those_that_are_gone():
    recorded = (Recorded("gone", "init", A, ()), Recorded("u1", "init", A, ()))

    assert owner_uid_of(A, recorded, frozenset({"u1"})) == "u1"
    assert owner_uid_of(A, recorded, frozenset({"u1", "gone"})) is None


@st.composite
def kubelets(draw: st.DrawFn) -> dict[str, Any]:
    """What a kubelet hands out to a few pods, with its way of lending plain init containers' slots."""
    rng = random.Random(draw(st.integers(0, 10_000)))
    free = [f"kerf-{i}" for i in range(60)]
    rng.shuffle(free)
    turns: dict[tuple[str, ...], int] = {}
    pods, held, recorded = [], [], []
    for p in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.tuples(st.sampled_from(["init", "side"]), st.integers(1, 3)), max_size=3)) + [
            ("app", n) for n in draw(st.lists(st.integers(1, 3), min_size=0, max_size=3))
        ]
        reusable: list[str] = []
        containers = []
        for c, (kind, count) in enumerate(shape):
            lent = rng.sample(reusable, min(count, len(reusable)))
            slots = [*lent, *(free.pop() for _ in range(count - len(lent)))]
            reusable = list({*reusable, *slots}) if kind == "init" else [s for s in reusable if s not in slots]
            key = tuple(sorted(slots))
            name = turn_name(key, turns.get(key, 0))
            turns[key] = turns.get(key, 0) + 1
            stage = {"init": Stage.INIT, "side": Stage.SIDECAR, "app": Stage.APP}[kind]
            containers.append((f"c{c}", stage, key, name))
            recorded.append(Recorded(f"u{p}", f"c{c}", key, (name,)))
            if kind != "init":
                held.append(Held("team", f"p{p}", f"c{c}", key))
        grant = Grant(
            tuple(
                ContainerGrant(n, tuple(Slice(f"GPU-{i}", "nvidia", 100 * p + 10 * c + 1, 1) for i in range(len(key))))
                for c, (n, _, key, _) in enumerate(containers)
            )
        )
        pods.append(
            (Holding(f"team/p{p}", f"u{p}", "n", grant, tuple((n, s) for n, s, _, _ in containers)), containers)
        )
    return {"pods": pods, "held": tuple(sorted(held)), "recorded": tuple(sorted(recorded))}


@given(kubelets())
def test_for_all_slots_of_a_kubelet_the_name_it_remembers_leads_to_the_containers_own_slices(world: dict[str, Any]):
    for pod, containers in world["pods"]:
        for container, _, slots, name in containers:
            found = starts(slots, pod, world["held"], world["recorded"])
            sharers = [c for c, _, s, _ in containers if s == slots]
            if isinstance(found, StartRefusal):
                assert len(sharers) > TURNS
                continue
            meant = [start.container for start in found if name in start.names]
            assert [pod.grant.of(container)] == [pod.grant.of(c) for c in meant]


@given(kubelets())
def test_without_the_checkpoint_a_container_gets_its_own_slices_or_a_refusal(world: dict[str, Any]):
    for pod, containers in world["pods"]:
        for container, stage, slots, name in containers:
            found = starts(slots, pod, world["held"], None)
            if isinstance(found, StartRefusal):
                assert any(s is Stage.INIT for _, s, _, _ in containers)
                continue
            meant = {start.container for start in found if name in start.names}
            if stage is Stage.INIT:
                # the public API does not list it: a sole candidate of as many cards is taken
                assert all(len(pod.grant.of(c)) == len(slots) for c in meant)
            else:
                assert [pod.grant.of(container)] == [pod.grant.of(c) for c in meant]
