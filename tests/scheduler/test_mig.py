"""MIG cards through the scheduler: never over-granted, refused for want of a place, and repacked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.paths import pod as pod_path
from kerf.testing.builders import a_mig_card, a_node, a_pod, an_ask
from kerf.values.grant import CardUse, Slice
from kerf.values.mig import Instance, named, place_at, start_of
from kerf.values.node import Node
from kerf.values.places import counters
from kerf.values.verdict import Reason
from kerfctl.main import main
from scheduler.core.bulk import Kinds, landing
from scheduler.policies.fragmentation import compile_lens, price, survey
from scheduler.policies.sights import Sight
from scheduler.policies.workload import WHOLE, Kind, Target
from scheduler.solver.check import broken_rules
from scheduler.solver.problem import Problem
from scheduler.solver.solve import plan
from scheduler.state.fleet import Fleet
from tests.effort import examples
from tests.vendors.shop import Shop

FOREIGN = Instance(6, 1, 19, 1, "MIG-of-another")
H200 = {"model": "NVIDIA H200", "memory_mib": 143_155}
NODE = a_node("n", (a_mig_card(0, FOREIGN), a_mig_card(1), a_mig_card(2, **H200)))
ASKS = st.tuples(
    st.sampled_from([1, 9_984, 10_240, 20_096, 30_000, 81_152]), st.sampled_from([None, 0, 12, 20, 45, 100])
)


def pods_on(shop: Shop) -> dict[str, list[Slice]]:
    """Every slice by its card, counted again from the grants."""
    found: dict[str, list[Slice]] = {}
    for holding in shop.store.ledger.holdings():
        for container in holding.grant.containers:
            for piece in container.slices:
                found.setdefault(piece.card, []).append(piece)
    return found


def collisions(shop: Shop) -> list[str]:
    """Cards on which instances overlap each other, or one of another's."""
    found = []
    for state in shop.store.desk.state("n").cards:
        geometry = state.card.mig
        assert geometry is not None
        lies = [(one.start, one.start + one.size) for one in geometry.taken]
        for piece in pods_on(shop).get(state.card.id, []):
            profile = geometry.profile_of(piece.memory_mib, piece.cores)
            assert profile is not None, piece
            assert start_of(piece.place) in profile.starts
            lies.append((start_of(piece.place), start_of(piece.place) + profile.size))
        covered = sorted(n for start, end in lies for n in range(start, end))
        if len(set(covered)) != len(covered):
            found.append(f"{state.card.id}: {lies}")
        if any(count > 1 for count in counters(state.used.places)):
            found.append(f"{state.card.id}: the ledger counts {counters(state.used.places)}")
    return found


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(ASKS, st.integers(0, 3)), min_size=1, max_size=25))
def test_no_card_is_over_granted_whatever_comes_and_goes(steps: list[Any]):
    shop, live = Shop(NODE), []
    for i, ((memory, cores), leaves) in enumerate(steps):
        got = shop.take(a_pod(f"p{i}", mem=memory, cores=cores))
        if got.slices:
            live.append(got.stored)
        if live and leaves == 0:
            shop.store.feed.apply_pod("DELETED", live.pop(i % len(live)))
        assert collisions(shop) == []


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(ASKS, min_size=1, max_size=14))
def test_what_the_solver_plans_breaks_no_rule_and_uses_at_least_what_comes_one_by_one(asks: list[Any]):
    shop, empty, read = Shop(NODE), Shop(NODE), []
    one_by_one = 0
    for i, (memory, cores) in enumerate(asks):
        pod = a_pod(f"p{i}", mem=memory, cores=cores)
        got = shop.take(pod)
        one_by_one += bool(got.slices)
        read.append(empty.store.desk.read(got.stored)[0])
    problem = Problem(tuple(empty.store.desk.states()), tuple(read))

    found = plan(problem)

    assert broken_rules(problem, found.assignments) == ()
    assert (found.rejected, len(found.assignments) >= one_by_one) == ("", True)


def test_pods_in_other_modes_keep_off_and_pods_that_want_mig_come():
    shop = Shop(NODE)
    wants = {"nvidia.com/vgpu-mode": "mig"}

    assert shop.take(a_pod("a", annotations={"nvidia.com/vgpu-mode": "hami-core"})).slices == []
    assert len(shop.take(a_pod("b", annotations=wants)).slices) == 1


@pytest.mark.parametrize(("memory", "cores", "booked"), [(8_000, 10, (9_984, 12)), (20_097, None, (40_448, 45))])
def test_a_pod_is_charged_what_its_profile_has(memory: int, cores: int | None, booked: tuple[int, int]):
    shop = Shop(a_node("n", (a_mig_card(),)))

    ((_, _, *amounts),) = shop.take(a_pod("a", mem=memory, cores=cores)).slices
    assert tuple(amounts) == booked


def fragmented() -> Shop:
    """A card on which 1g lies at memory slices 5 and 0, since those at 6 and 4 have ended: 61,184 MiB are free."""
    shop = Shop(a_node("n", (a_mig_card(),)))
    live = [shop.take(owned(a_pod(f"p{i}", mem=9_000, cores=0))).stored for i in range(4)]
    for ended in (live[0], live[1]):
        shop.store.feed.apply_pod("DELETED", ended)
        shop.kube.remove(pod_path("default", ended["metadata"]["name"]))
    return shop


def owned(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "rs", "controller": True}]
    return pod


def test_a_pod_that_fits_by_memory_and_not_by_place_is_refused_so_and_hears_the_smallest_fix():
    shop = fragmented()

    got = shop.take(a_pod("big", mem=30_000, cores=0))
    ask, _ = shop.store.desk.read(got.stored)
    why = shop.store.desk.fits(ask, ["n"]).why

    assert why is not None
    assert why.counts == ((Reason.PLACE, 1),)
    assert (
        why.sentence
        == got.misfit
        == (
            "needs 30,000 MiB on one card; best node n has 61,184 MiB free, but no place for the slice (card 0 has "
            "only 1, 2, 3, 4, 6, 7 of the places that 3g.40gb could cover): moving an instance can make one (kerf "
            "repack --for default/big); 20,096 MiB would fit on n"
        )
    )


def test_repack_names_the_instance_to_move(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shop = fragmented()
    shop.take(a_pod("big", mem=30_000, cores=0))
    state = tmp_path / "state.yaml"
    state.write_text(yaml.safe_dump_all(shop.kube.objects()))

    assert main(["repack", "--for", "default/big", "--file", str(state)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "1. move default/p3 from n to n: 1g.10gb of GPU-0 from memory slice 0 to memory slice 4 of GPU-0",
        "then default/big fits on n",
    ]


def test_people_read_profiles():
    card = a_mig_card()
    assert card.mig is not None
    assert named(card.mig, 40_448, 45, 1 << 28) == "3g.40gb at memory slice 4"


def test_a_place_that_a_large_instance_needs_costs_a_small_one_more_than_a_place_that_no_other_can_use():
    """Both cards have 61,184 MiB free. On the first one 3g still has its place at 0; on the second it has none.

    3g is what usually comes. One more 1g beside 3g's place spoils nothing: it costs the same on both. Where it has to
    lie inside of 3g's only place, it costs what 3g could have used.
    """
    cards = tuple(a_mig_card(i) for i in range(3))
    held = ((4, 5), (1, 5), (4, 5, 6))
    fleet = Fleet()
    fleet.put_node(Node("n", cards, cpu_milli=100_000))
    for card, starts in zip(cards, held, strict=True):
        for start in starts:
            fleet.charge("n", {card.id: CardUse(9_984, 12, 1, place_at(start, 1).adds)}, 0, 0)
    lens = compile_lens(Target(((Kind(1_000, 1, 30_000, 0, 0, vendor="nvidia"), WHOLE),)), (Sight(cards[0]),), (3,))
    columns = fleet.columns.take(np.array([fleet.row("n")]))
    small = an_ask(memory_mib=9_000, cores=0)
    want = Kinds.of(small, np.ones(1, bool), (cards[0],)).on(columns)
    before = survey(columns, lens)

    costs = price(want, 0, columns, columns.present, before, lens)[0, :3].tolist()

    assert before.count[0].tolist() == [2]
    assert [start_of(int(adds)) for adds in landing(want, columns)[0, :3]] == [6, 4, 0]
    spoilt, useless, inside = costs
    assert useless < spoilt < inside
