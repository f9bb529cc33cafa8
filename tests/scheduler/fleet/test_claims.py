"""FleetWorkloads that ask by claims: planned on the cards that claims are given, handed over with their templates."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.testing.builders import a_card, a_mig_card
from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.device_ask import DeviceAsk, DeviceOption
from kerf.values.offer import OfferedCard, equal_part
from kerf.values.policy import Defaults
from kerf.values.units import parse_quantity, to_mib
from kerf.wire.model_conditions import parse_condition
from kerf.wire.resourceslices import render_pool
from scheduler.fleet.claims import pieces_of
from scheduler.solver.fleet.problem import Piece
from tests.effort import examples
from tests.scheduler.fleet.world import Cluster, World

TEMPLATE = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates/"
A = "device.attributes['gpu.kerf.dev']"
KINDS = ("slice", "card", "mig")
CARDS = (a_card(), a_card(cores=50, slots=4), a_card().overcommitted(1.5, 2.0), a_mig_card())


def first_device(card: Card, kinds: list[str], memory: int | None, cores: int | None) -> Piece | None:
    """What Kubernetes' allocator would take of an empty node with this card: the first device with room."""
    offered = OfferedCard(card, equal_part(card))
    for device in (
        d for item in render_pool("n", "u", (offered,), shares=True) for d in item["spec"].get("devices", ())
    ):
        attributes, capacity = device["attributes"], device["capacity"]
        kind = attributes["kind"]["string"]
        if kind not in kinds:
            continue
        have = (to_mib(capacity["memory"]["value"]), int(parse_quantity(capacity["cores"]["value"])))
        if kind == "slice":
            policy = capacity["memory"]["requestPolicy"], capacity["cores"]["requestPolicy"]
            want = (memory or to_mib(policy[0]["default"]), int(policy[1]["default"]) if cores is None else cores)
            most = to_mib(policy[0]["validRange"]["max"]), int(policy[1]["validRange"]["max"])
            if want[0] <= most[0] and want[1] <= most[1]:
                return Piece(*want)
        elif (memory or 0) <= have[0] and (cores or 0) <= have[1]:
            return Piece(*have) if kind == "mig" else Piece(min(card.memory_mib, have[0]), 99, alone=True)
    return None


@given(
    card=st.sampled_from(CARDS),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    memory=st.none() | st.integers(1, 130_000),
    cores=st.none() | st.integers(0, 100),
)
@settings(max_examples=examples(100))
def test_a_claim_takes_what_the_first_of_the_nodes_devices_would_give_it(
    card: Card, kinds: list[str], memory: int | None, cores: int | None
) -> None:
    condition = parse_condition(f"{A}.kind in {kinds}")
    ask = DeviceAsk((DeviceOption((condition,), 1, memory, cores),))

    found = pieces_of((ask,), card, Defaults())

    wanted = first_device(card, kinds, memory, cores)
    if wanted is not None and wanted.alone:
        assert found == (replace(wanted, cores=found[0].cores if found else 0),)
    else:
        assert found == (None if wanted is None else (wanted,))


def test_where_the_first_alternative_cannot_be_answered_the_next_one_counts() -> None:
    whole, half = parse_condition(f"{A}.model == 'other'"), parse_condition(f"{A}.kind == 'slice'")
    ask = DeviceAsk((DeviceOption((whole,)), DeviceOption((half,), 2, 40_000, 50)))

    assert pieces_of((ask,), a_card(), Defaults()) == (Piece(40_000, 50, 2),)


# ---- the manager
def by_claims(memory: str = "40000Mi", cores: str = "50", **claim: Any) -> dict[str, Any]:
    exactly = {"deviceClassName": "slice.gpu.kerf.dev", "capacity": {"requests": {"memory": memory, "cores": cores}}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "half", "namespace": "default"},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly, **claim}]}}},
    }


POD = {
    "spec": {
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "half"}],
        "containers": [{"name": "main", "resources": {"claims": [{"name": "gpu"}]}}],
    }
}


def handed_over(world: World, cluster: str, plural: str) -> list[dict[str, Any]]:
    group = {"deployments": "/apis/apps/v1/", "resourceclaimtemplates": "/apis/resource.k8s.io/v1/"}[plural]
    return world.clusters[cluster].kube.objects(group)


def test_a_workload_by_claims_goes_where_claims_are_given_cards_with_a_template_for_that_model() -> None:
    world = World(Cluster("plain", 4), Cluster("claims", 1, allocator=Allocator.DRA))
    world.home.put(by_claims())
    world.ask("chat", 6, template=POD)

    world.round(rounds=3)

    (template,) = handed_over(world, "claims", "resourceclaimtemplates")
    (deployment,) = handed_over(world, "claims", "deployments")
    assert deployment["spec"]["replicas"] == 6
    refs = deployment["spec"]["template"]["spec"]["resourceClaims"]
    assert refs == [{"name": "gpu", "resourceClaimTemplateName": template["metadata"]["name"]}]
    exactly = template["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    assert exactly["selectors"] == [{"cel": {"expression": f"{A}.model == 'NVIDIA H100 80GB HBM3'"}}]
    assert handed_over(world, "plain", "deployments") == []


def test_what_has_no_place_is_counted_as_the_slices_that_it_asks_for() -> None:
    world = World(Cluster("plain", 4), Cluster("claims", 1, allocator=Allocator.DRA))
    world.home.put(by_claims())
    world.ask("chat", 10, template=POD)

    world.round()

    message = world.status("chat")["conditions"][0]["message"]
    assert message == (
        "2 of 10 replicas have no place: claims: 8 of 10 replicas fit by themselves; 4 of its cards are empty; "
        "plain: no card that it accepts; it has no cards that are given to claims"
    )


def test_whole_cards_by_their_extended_resource_become_claims_for_one_model() -> None:
    world = World(Cluster("claims", 1, allocator=Allocator.DRA))
    limits = {"gpu.kerf.dev/card": "2", "cpu": "1"}
    world.ask("large", 2, template={"spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]}})

    world.round(rounds=2)

    (template,) = handed_over(world, "claims", "resourceclaimtemplates")
    (deployment,) = handed_over(world, "claims", "deployments")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1"},
        "claims": [{"name": "main-0"}],
    }
    assert template["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] == 2
    assert world.status("large")["placed"] == 2


def test_another_content_is_another_template_and_the_old_one_goes() -> None:
    world = World(Cluster("claims", 1, allocator=Allocator.DRA))
    world.home.put(by_claims())
    world.ask("chat", 2, template=POD)
    world.round(rounds=2)
    (before,) = handed_over(world, "claims", "resourceclaimtemplates")
    world.home.put(by_claims(memory="20000Mi"))
    world.round(rounds=2)

    (after,) = handed_over(world, "claims", "resourceclaimtemplates")

    assert after["metadata"]["name"] != before["metadata"]["name"]


def test_what_cannot_be_planned_is_said_by_name_and_disturbs_no_other() -> None:
    world = World(Cluster("claims", 1, allocator=Allocator.DRA), Cluster("plain", 1))
    world.home.put(by_claims())
    shared = {"spec": {**POD["spec"], "resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]}}
    world.ask("no-template", 1, template={"spec": {**POD["spec"], "resourceClaims": [
        {"name": "gpu", "resourceClaimTemplateName": "gone"}]}})  # fmt: skip
    world.ask("shared", 1, template=shared)
    world.ask("sized", 1, template=POD, accepts=[{"model": "H100", "memoryMiB": 1000}])
    world.ask("both", 1, template={"spec": {**POD["spec"], "containers": [
        {"name": "main", "resources": {"limits": {"nvidia.com/gpumem": "1000"}}}]}})  # fmt: skip
    world.ask("good", 2)

    world.round(rounds=3)

    said = {name: world.status(name)["conditions"][0]["message"] for name in ("no-template", "shared", "sized", "both")}
    assert said == {
        "no-template": "spec.template.spec.resourceClaims[0].resourceClaimTemplateName: 'gone': "
        "there is no ResourceClaimTemplate of that name: create it",
        "shared": "spec.template.spec.resourceClaims[0].resourceClaimName: 'mine': "
        "write resourceClaimTemplateName: a claim of Kerf's cards belongs to one pod",
        "sized": "spec.accepts: 'H100': "
        "leave out memoryMiB and cores: its ResourceClaimTemplate says how much a claim asks for",
        "both": "spec.template.spec.resourceClaims: "
        "\"[{'name': 'gpu', 'resourceClaimTemplateName': 'half'}]\": "
        "ask by claims, or by limits such as nvidia.com/gpumem: a pod uses one way",
    }
    assert world.running("good") == {"plain": 2}


def test_a_cluster_whose_claims_cannot_be_read_takes_no_workload_by_claims() -> None:
    world = World(Cluster("claims", 1, allocator=Allocator.DRA, reads_claims=False))
    world.home.put(by_claims())
    world.ask("chat", 1, template=POD)

    world.round(rounds=2)

    assert handed_over(world, "claims", "deployments") == []
    assert "run kerf cluster add for it again" in world.status("chat")["conditions"][0]["message"]
