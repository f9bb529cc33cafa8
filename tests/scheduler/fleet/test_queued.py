"""FleetWorkloads with a queue: written on the manager cluster for MultiKueue, in clusters that the queue reaches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kerf.testing.builders import a_container, cards_of
from kerf.values.fleet import Assigned, ClusterSpec, FleetWorkload, HandOver
from kerf.values.quota import class_of
from kerf.wire.classes import class_labels
from kerf.wire.fleet import LABEL_CLUSTER, LABEL_EPOCH
from kerf.wire.multikueue import parse_dispatchable
from scheduler.fleet.queued import Queues, bounded, other_classes, parse_queues
from scheduler.fleet.render import REFUSED, render
from scheduler.fleet.view import View
from tests.scheduler.fleet.world import NAMES, Cluster, World

ROOT = "kueue.x-k8s.io/v1beta2"
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def an_object(kind: str, name: str, namespace: str = "", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": ROOT, "kind": kind, "metadata": meta, "spec": spec}


def kueue(*clusters: str, controller: str = "kueue.x-k8s.io/multikueue") -> list[dict[str, Any]]:
    return [
        an_object("LocalQueue", "team", "default", clusterQueue="whole"),
        an_object("ClusterQueue", "whole", admissionChecksStrategy={"admissionChecks": [{"name": "mk"}]}),
        an_object("AdmissionCheck", "mk", controllerName=controller, parameters={"name": "workers"}),
        an_object("MultiKueueConfig", "workers", clusters=list(clusters)),
    ]


def queues_of(items: list[dict[str, Any]]) -> Queues:
    kinds = ("LocalQueue", "ClusterQueue", "AdmissionCheck", "MultiKueueConfig")
    return parse_queues({f"{kind.lower()}s": [i for i in items if i["kind"] == kind] for kind in kinds})


def a_workload(**changes: Any) -> FleetWorkload:
    template = {"spec": {"containers": [a_container(mem=40_000, cores=50)], "nodeSelector": {"disk": "ssd"}}}
    usual: dict[str, Any] = {"queue": "team", "template": template}
    return FleetWorkload("default", "chat", "uid-chat", 3, **usual | changes)


@pytest.mark.parametrize(
    ("clusters", "reached", "allowed"),
    [((), ("a", "b"), ("a", "b")), (("b", "c"), ("a", "b"), ("b",))],
    ids=["all that the queue reaches", "those of them that the workload names"],
)
def test_a_workload_may_go_where_its_queue_reaches(
    clusters: tuple[str, ...], reached: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    found = bounded(a_workload(clusters=clusters), queues_of(kueue(*reached)))

    assert isinstance(found, FleetWorkload)
    assert found.clusters == allowed


@pytest.mark.parametrize(
    ("one", "queues", "says"),
    [
        (a_workload(queue="no"), queues_of(kueue("a")), "spec.queue: the manager cluster has no LocalQueue default/no"),
        (
            a_workload(),
            queues_of(kueue("a", controller="other")),
            "spec.queue: ClusterQueue whole has no admission check of kueue.x-k8s.io/multikueue",
        ),
        (
            a_workload(clusters=("c",)),
            queues_of(kueue("a", "b")),
            "spec.queue: ClusterQueue whole reaches a, b; spec.clusters has c",
        ),
        (a_workload(), queues_of(kueue()), "spec.queue: ClusterQueue whole reaches no cluster"),
        (a_workload(), Queues(problem="Kueue is not there"), "Kueue is not there"),
    ],
)
def test_a_queue_that_reaches_nothing_is_one_sentence(one: FleetWorkload, queues: Queues, says: str) -> None:
    assert bounded(one, queues) == says


def test_a_deployment_says_its_queue_to_kueue_and_its_cluster_to_the_dispatcher() -> None:
    made = render(a_workload(), Assigned("far", H100, 2, 3), "kerf", NAMES, ("class.kerf.dev/a100",))

    ((path, body),) = made.items()
    assert path.startswith("/apis/apps/v1/namespaces/default/deployments/chat-")
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-chat"
    assert body["spec"]["replicas"] == 3
    pod = body["spec"]["template"]
    assert (pod["metadata"]["labels"][LABEL_CLUSTER], pod["metadata"]["labels"][LABEL_EPOCH]) == ("far", "2")
    (term,) = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchExpressions": [{"key": "class.kerf.dev/a100", "operator": "DoesNotExist"}]}
    assert chosen(pod["spec"]) == "far"


def chosen(spec: Mapping[str, Any]) -> str:
    """The cluster that the dispatcher reads of Kueue's Workload, which has the pod's spec and not its labels."""
    status = {
        "conditions": [{"type": "QuotaReserved", "status": "True"}],
        "admissionChecks": [{"name": "mk", "state": "Pending"}],
    }
    meta = {"namespace": "default", "name": "pod-chat"}
    pods = {"podSets": [{"name": "main", "count": 1, "template": {"spec": spec}}]}
    one = parse_dispatchable({"metadata": meta, "spec": pods, "status": status}, ["mk"], {})
    assert one is not None
    return one.only


def a_view(name: str, model: str, *, labelled: bool = True) -> View:
    cluster = Cluster(name, 2, model=model)
    if labelled:
        label(cluster)
    nodes, states, _ = cluster.seen()
    return View(ClusterSpec(name), nodes=nodes, states=states)


def test_pods_take_no_quota_of_other_classes_where_nodes_have_the_label_of_theirs() -> None:
    far, near = a_view("far", H100), a_view("near", A100)
    bare = a_view("bare", H100, labelled=False)

    assert other_classes((far, near), far, H100) == (
        f"class.kerf.dev/{class_of(cards_of('x', 1, model=A100)[0]).slug}",
    )
    assert other_classes((far, near, bare), bare, H100) == ()


def test_what_a_pod_demands_of_its_nodes_stays_beside_the_classes_that_it_refuses() -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    rule = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {"podAffinity": {}, "nodeAffinity": {rule: {"nodeSelectorTerms": [term, term]}}}
    template = {"spec": {**a_workload().template["spec"], "affinity": affinity}}

    ((_, body),) = render(a_workload(template=template), Assigned("far", H100, 1, 1), "kerf", NAMES, ("b",)).items()

    without = {"matchExpressions": [*term["matchExpressions"], {"key": "b", "operator": "DoesNotExist"}]}
    assert body["spec"]["template"]["spec"]["affinity"] == {
        "podAffinity": {},
        "nodeAffinity": {rule: {"nodeSelectorTerms": [without, without]}},
    }


def test_a_workload_of_somebody_else_may_go_to_any_cluster() -> None:
    assert chosen({"tolerations": [{"key": "other", "operator": "Exists"}]}) == ""


def test_each_group_is_a_leader_worker_set_of_its_own_and_another_template_is_another_one() -> None:
    groups = a_workload(group_size=4, hand_over=HandOver.LEADER_WORKER_SET)
    part = Assigned("far", H100, 1, 2)
    made = render(groups, part, "kerf", NAMES)
    other = render(
        replace(groups, template={**groups.template, "metadata": {"labels": {"v": "2"}}}), part, "kerf", NAMES
    )

    assert [(b["spec"]["replicas"], b["spec"]["leaderWorkerTemplate"]["size"]) for b in made.values()] == [(1, 4)] * 2
    assert not set(made) & set(other)
    assert set(render(groups, Assigned("far", H100, 1, 3), "kerf", NAMES)) > set(made), "more groups, the same two"


def a_queued_world(*clusters: Cluster, reach: tuple[str, ...] = ("east", "west")) -> World:
    world = World(*clusters)
    for cluster in clusters:
        cluster.queued_at = world.home
    for item in kueue(*reach):
        world.home.put(item)
    return world


def test_replicas_go_through_multikueue_and_nothing_is_written_to_the_clusters() -> None:
    world = a_queued_world(Cluster("east", 1), Cluster("west", 1))
    world.ask("chat", 10, queue="team")
    world.round(rounds=5)

    assert sum(world.running("chat").values()) == 10
    assert world.status("chat")["readyReplicas"] == 10
    assert [cluster.kube.objects("/apis/apps/v1/") for cluster in world.clusters.values()] == [[], []]


def test_only_clusters_that_the_queue_reaches_get_something_and_the_rest_is_explained() -> None:
    world = a_queued_world(Cluster("east", 1), Cluster("west", 1), reach=("west",))
    world.ask("chat", 10, queue="team")
    world.round(rounds=5)

    assert world.running("chat") == {"west": 8}
    said = world.status("chat")["conditions"][0]["message"]
    assert "east: the workload's clusters, regions, supply and queue leave it out" in said


def test_a_class_that_comes_into_the_fleet_changes_no_pod_that_runs() -> None:
    world = a_queued_world(Cluster("east", 1), Cluster("west", 1, model=A100), reach=("east",))
    label(world.clusters["east"])
    world.ask("chat", 4, queue="team")
    world.round(rounds=3)
    ((before,), classes) = (world.home.objects("/apis/apps/v1/"), refused(world))

    label(world.clusters["west"])
    world.ask_again("chat", 5)
    world.round(rounds=3)

    (after,) = world.home.objects("/apis/apps/v1/")
    assert (before["spec"]["template"], classes) == (after["spec"]["template"], refused(world))
    assert (before["spec"]["replicas"], after["spec"]["replicas"]) == (4, 5)


def refused(world: World) -> str:
    (body,) = world.home.objects("/apis/apps/v1/")
    return str(body["metadata"]["annotations"][REFUSED])


def label(cluster: Cluster) -> None:
    """What Kerf writes on nodes where quota is by class."""
    for node in cluster.nodes_of():
        labels = class_labels(cards_of("any", 1, model=cluster.model))
        cluster.kube.put({**node, "metadata": {**node["metadata"], "labels": labels}})


def test_a_lost_clusters_replicas_go_elsewhere_and_its_old_ones_are_gone_once_it_returns() -> None:
    world = a_queued_world(Cluster("east", 2), Cluster("west", 2))
    world.ask("chat", 8, queue="team")
    world.round(rounds=5)
    (lost,) = world.running("chat")
    other = {"east": "west", "west": "east"}[lost]

    world.clusters[lost].up = False
    world.round(rounds=20)
    moved = world.running("chat")
    world.clusters[lost].up = True
    world.round(rounds=2)

    assert moved == {lost: 8, other: 8}
    assert world.running("chat") == {other: 8}


def test_a_queue_that_goes_away_moves_nothing_and_is_named() -> None:
    world = a_queued_world(Cluster("east", 2), Cluster("west", 2))
    world.ask("chat", 4, queue="team")
    world.round(rounds=5)
    before = world.running("chat")

    world.home.remove(f"/apis/{ROOT}/namespaces/default/localqueues/team")
    world.round(rounds=5)

    assert world.running("chat") == before
    assert world.status("chat")["conditions"][0]["message"].startswith("spec.queue: the manager cluster has no Local")


def test_what_is_queued_on_the_manager_cluster_is_no_part_of_it_as_a_member() -> None:
    """The manager cluster may be a member: the gated pods and Deployments there are for other clusters."""
    world = a_queued_world(Cluster("east", 1), Cluster("west", 1), reach=("west",))
    world.clusters["east"].kube = world.home  # east is the manager cluster
    for node in world.clusters["east"].nodes_of():
        world.home.put(node)
    world.ask("chat", 4, queue="team")
    world.round(rounds=3)
    world.clusters["east"].up = False
    world.round(rounds=20)
    world.clusters["east"].up = True
    world.round(rounds=20)

    assert world.running("chat") == {"west": 4}
    assert world.status("chat")["readyReplicas"] == 4
    assert world.record("east")["phase"] == "Live"
