"""A TenantQuota over several clusters: parts by live capacity that add up, moved with it, one status."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.quota import PATH, parse_tenant
from scheduler.fleet.tenants import TenantPart, waiting_for
from tests.scheduler.fleet.world import API, Cluster, World


def a_tenant(guaranteed: Any = "12 cards", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "TenantQuota",
        "metadata": {"name": "team", "labels": {"fleet.kerf.dev/split": "true"}},
        "spec": {"namespaces": ["default"], "classes": [{"model": "H100", "guaranteed": guaranteed}], **spec},
    }


def parts(world: World) -> dict[str, Any]:
    found = {}
    for name, cluster in world.clusters.items():
        for item in cluster.kube.objects(f"{PATH}/"):
            found[name] = item["spec"]["classes"][0]["guaranteed"]
    return found


def test_a_guarantee_is_split_by_live_capacity_and_moves_with_it():
    world = World(Cluster("east", 1), Cluster("west", 2))
    world.home.put(a_tenant())
    world.round(rounds=3)
    before = parts(world)

    world.clusters["east"].up = False
    world.round(rounds=20)
    lost = parts(world)
    world.clusters["east"].up = True
    world.round(rounds=30)

    assert before == {"east": "4 cards", "west": "8 cards"}
    assert lost["west"] == "12 cards"
    assert parts(world) == before


def test_the_use_in_all_clusters_is_one_status_and_counts_while_a_cluster_is_unreachable():
    world = World(Cluster("east", 1), Cluster("west", 1))
    world.join("west", supply="rented")
    world.home.put(a_tenant())
    world.ask("chat", 4, clusters=["west"])
    world.round(rounds=4)
    used = {"memoryMiB": 160_000, "cores": 200, "cards": 4}
    part = world.clusters["west"].kube.get(f"{PATH}/team")
    world.clusters["west"].kube.put({**part, "status": {"totals": {"used": used, "guaranteed": used}}})
    world.round()
    world.clusters["west"].up = False
    world.round(rounds=8)

    fleet = world.home.get(f"{PATH}/team")["status"]["fleet"]
    assert fleet["used"] == used
    assert [(c["name"], c["reachable"]) for c in fleet["clusters"]] == [("east", True), ("west", False)]
    assert float(fleet["costPerHour"]) > 0


def test_a_tenant_that_people_wrote_in_a_cluster_stays_theirs():
    world = World(Cluster("east", 1), Cluster("west", 1))
    own = a_tenant("1 card")
    del own["metadata"]["labels"]
    world.clusters["east"].kube.put(own)
    world.home.put(a_tenant())

    world.round(rounds=3)

    assert parts(world) == {"east": "1 card", "west": "6 cards"}


def test_parts_of_a_tenant_that_is_split_no_more_are_removed():
    world = World(Cluster("east", 1))
    world.home.put(a_tenant())
    world.round(rounds=3)
    whole = a_tenant()
    del whole["metadata"]["labels"]
    world.home.put(whole)
    world.round(rounds=2)

    assert parts(world) == {}


def test_parts_of_a_tenant_that_cannot_be_read_any_more_stay_as_they_are():
    world = World(Cluster("east", 1), Cluster("west", 2))
    world.home.put(a_tenant())
    world.round(rounds=3)
    world.home.put(a_tenant("12 crads"))
    world.round(rounds=2)

    assert parts(world) == {"east": "4 cards", "west": "8 cards"}


@given(st.integers(0, 999_999), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_the_parts_add_up_to_the_whole(cards: int, sizes: list[int]) -> None:
    from scheduler.fleet.tenants import _whole

    assert sum(n or 0 for n in _whole(cards, sizes)) == cards


def test_every_part_is_a_tenant_that_the_codec_reads():
    world = World(Cluster("east", 1), Cluster("west", 2))
    world.home.put(a_tenant({"memory": "100Gi", "cores": 301}, weight=3, priority="high"))
    world.round(rounds=3)

    read = [parse_tenant(item) for c in world.clusters.values() for item in c.kube.objects(f"{PATH}/")]
    assert sum(each.classes[0].guaranteed.memory_mib or 0 for each in read) == 102_400
    assert sum(each.classes[0].guaranteed.cores or 0 for each in read) == 301
    assert {each.weight for each in read} == {3}


@pytest.mark.parametrize(
    ("there", "wanted", "waits"),
    [
        ({"A100": "2 cards", "H100": "8 cards"}, {"H100": "4 cards"}, True),
        ({"A100": "2 cards", "H100": "8 cards"}, {"H100": "8 cards", "A100": "2 cards"}, False),
        ({"H100": "2 cards"}, {"A100": "1 card", "H100": "3 cards"}, False),
        ({"H100": {"memory": "320Gi"}}, {"H100": {"memory": 160_000}}, True),
        ({"H100": {"memory": "100Gi", "cores": 100}}, {"H100": {"memory": "100Gi", "cores": 200}}, False),
    ],
)
def test_a_part_that_has_to_shrink_is_known_by_its_classes(
    there: dict[str, Any], wanted: dict[str, Any], waits: bool
) -> None:
    now, goal = (
        {**a_tenant(), "spec": {"namespaces": ["default"], "classes": [{"model": m, "guaranteed": g} for m, g in each]}}
        for each in (there.items(), wanted.items())
    )

    assert waiting_for([TenantPart("east", parse_tenant(goal))], {"east": now}) is waits
