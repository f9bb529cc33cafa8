"""Kubernetes' own allocator on the slices that Kerf publishes: no two consumers exceed a card, whatever is asked."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.check import LivePod, check_start
from deviceplugin.core.offered import NodeView, offered
from kerf.testing.builders import a_card, a_claiming_pod, a_mig_card
from kerf.values.allocator import Allocator
from kerf.values.claim import divide, grant_of
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, Holding, card_uses
from kerf.values.mig import start_of
from kerf.values.policy import SchedulingPolicy
from kerf.wire.claims import claim_uses, parse_claim
from kerf.wire.resourceslices import numbered, render_pool
from tests.cluster.real_allocator import NODE, Kubernetes, running_allocator

pytestmark = pytest.mark.cluster
__all__ = ["running_allocator"]
"""The fixture `kubernetes`."""

Ask = tuple[str, int, int, int]
"""(class, count, MiB, percent of cores); no MiB names no amounts."""
asks = st.one_of(
    st.tuples(st.just("slice"), st.integers(1, 2), st.integers(0, 50_000), st.integers(0, 99)),
    st.tuples(st.just("card"), st.integers(1, 2), st.just(0), st.just(0)),
)
releases = st.integers(0, 99)
fleets = st.lists(
    st.builds(
        lambda memory, slots, over: (memory, slots, over),
        st.integers(1000, 90_000), st.integers(1, 4), st.sampled_from([(1, 1), (1.5, 2)]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


def a_claim(number: int, ask: Ask) -> dict[str, Any]:
    kind, cards, mib, cores = ask
    exactly: dict[str, Any] = {
        "deviceClassName": f"{kind}.gpu.kerf.dev",
        "allocationMode": "ExactCount",
        "count": cards,
    }
    if mib:
        exactly["capacity"] = {"requests": {"memory": f"{mib}Mi", "cores": str(cores)}}
    meta = {"name": f"c{number}", "namespace": "default", "uid": f"uid-{number}"}
    return {"metadata": meta, "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}


class Node:
    """A node with its claims: what they hold by Kerf's own reading, and what the gate says of each new one."""

    def __init__(self, cards: list[Card]) -> None:
        self.cards = {card.id: card for card in cards}
        self.pods: dict[str, LivePod] = {}
        self.claims: dict[str, dict[str, Any]] = {}

    @property
    def uses(self) -> Mapping[str, CardUse]:
        total: dict[str, CardUse] = {}
        for pod in self.pods.values():
            for card, use in card_uses(pod.holding.grant, ()).items():
                total[card] = total.get(card, NO_USE) + use
        return total

    def slices(self) -> tuple[dict[str, Any], ...]:
        cards = offered(self.cards.values(), self.uses, NodeView(), SchedulingPolicy())
        return numbered(render_pool(NODE, "u", cards, shares=True), 1)

    def take(self, claim: dict[str, Any]) -> None:
        name = claim["metadata"]["name"]
        read = replace(parse_claim(claim), node=NODE)
        division = divide(claim_uses(a_claiming_pod(name, main=[name])), {name: read})
        assert division.problem == ""
        holding = Holding(name, name, NODE, grant_of(division, self.cards, "nvidia"))
        pod = LivePod(holding, False, ("", "", name), Allocator.DRA)
        assert check_start(pod, tuple(self.pods.values()), self.cards) is None
        self.pods[name] = replace(pod, started=True)
        self.claims[name] = claim


@given(fleets, st.lists(st.one_of(asks, releases), max_size=14))
def test_what_the_allocator_gives_the_node_never_refuses_and_no_card_is_exceeded(
    kubernetes: Kubernetes, hardware: list[tuple[int, int, tuple[float, float]]], steps: list[Ask | int]
):
    node = Node([
        a_card(i, memory_mib=memory, slots=slots, allocator=Allocator.DRA).overcommitted(*over)
        for i, (memory, slots, over) in enumerate(hardware)
    ])  # fmt: skip
    numbers = count()
    for step in steps:
        if isinstance(step, int):
            for name in list(node.claims)[step:][:1]:
                del node.claims[name], node.pods[name]
            continue
        claim = a_claim(next(numbers), step)
        found = kubernetes.allocate(node.slices(), list(node.claims.values()), claim)
        if found is None:
            continue
        node.take({**claim, "status": {"allocation": found}})
        slices = node.pods[claim["metadata"]["name"]].holding.grant.of("main")
        kind, cards, mib, cores = step
        assert len({piece.card for piece in slices}) == cards
        if kind == "slice" and mib:
            assert {(piece.memory_mib, piece.cores) for piece in slices} == {(mib, cores)}
        for card, use in node.uses.items():
            has = node.cards[card]
            assert (use.memory_mib <= has.memory_mib, use.cores <= has.cores, use.slots <= has.slots) == (True,) * 3


def test_claims_fill_the_fullest_card_first_and_leave_whole_cards_whole(kubernetes: Kubernetes):
    node = Node([a_card(i, memory_mib=80_000, allocator=Allocator.DRA) for i in range(3)])
    for number, ask in enumerate([("slice", 1, 30_000, 0), ("slice", 1, 60_000, 0), ("slice", 1, 15_000, 0)]):
        claim = a_claim(number, ask)
        node.take(
            {**claim, "status": {"allocation": kubernetes.allocate(node.slices(), list(node.claims.values()), claim)}}
        )

    assert [p.holding.grant.of("main")[0].card for p in node.pods.values()] == ["GPU-0", "GPU-1", "GPU-1"]
    assert kubernetes.allocate(node.slices(), list(node.claims.values()), a_claim(9, ("card", 2, 0, 0))) is None
    whole = kubernetes.allocate(node.slices(), list(node.claims.values()), a_claim(9, ("card", 1, 0, 0)))
    assert whole is not None
    assert [result["device"] for result in whole["devices"]["results"]] == ["card-2"]


def test_all_of_the_cores_is_no_slice_and_an_unasked_amount_is_not_the_card(kubernetes: Kubernetes):
    node = Node([a_card(0, memory_mib=80_000, allocator=Allocator.DRA)])
    only_cores = a_claim(0, ("slice", 1, 0, 0))
    only_cores["spec"]["devices"]["requests"][0]["exactly"]["capacity"] = {"requests": {"cores": "40"}}

    given_ = kubernetes.allocate(node.slices(), [], only_cores)

    assert given_ is not None
    assert given_["devices"]["results"][0]["consumedCapacity"] == {"memory": "8000Mi", "cores": "40", "slots": "1"}
    assert kubernetes.allocate(node.slices(), [], a_claim(1, ("slice", 1, 10, 100))) is None


profiles = st.sampled_from([(9_000, 10), (9_984, 12), (19_000, 12), (20_000, 20), (40_000, 40), (60_000, 60)])


@given(st.lists(st.one_of(profiles, releases), max_size=16))
def test_instances_that_the_allocator_gives_never_cover_each_other_and_each_is_large_enough(
    kubernetes: Kubernetes, steps: list[tuple[int, int] | int]
):
    node = Node([a_mig_card(i, allocator=Allocator.DRA) for i in range(2)])
    numbers = count()
    for step in steps:
        if isinstance(step, int):
            for name in list(node.claims)[step:][:1]:
                del node.claims[name], node.pods[name]
            continue
        claim = a_claim(next(numbers), ("mig", 1, *step))
        found = kubernetes.allocate(node.slices(), list(node.claims.values()), claim)
        if found is None:
            continue
        node.take({**claim, "status": {"allocation": found}})  # the gate refuses what is covered
        (piece,) = node.pods[claim["metadata"]["name"]].holding.grant.of("main")
        assert (piece.memory_mib >= step[0], piece.cores >= step[1]) == (True, True)


def test_seven_instances_fill_a_card_and_a_half_stays_whole_for_a_larger_one(kubernetes: Kubernetes):
    node = Node([a_mig_card(0, allocator=Allocator.DRA)])
    small, starts = ("mig", 1, 9_984, 12), []
    for number, ask in enumerate([small] * 3 + [("mig", 1, 40_448, 45)]):
        claim = a_claim(number, ask)
        found = kubernetes.allocate(node.slices(), list(node.claims.values()), claim)
        assert found is not None, (number, starts)
        node.take({**claim, "status": {"allocation": found}})
        starts.append(start_of(node.pods[f"c{number}"].holding.grant.of("main")[0].place))

    assert starts[-1] in (0, 4)
    assert kubernetes.allocate(node.slices(), list(node.claims.values()), a_claim(9, ("mig", 1, 40_448, 45))) is None
    assert kubernetes.allocate(node.slices(), list(node.claims.values()), a_claim(9, ("slice", 1, 1_000, 1))) is None
