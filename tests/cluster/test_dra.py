"""Claims on a real kubelet: each container holds what Kubernetes' allocator gave its claim, whatever restarts."""

from collections.abc import Iterator
from typing import Any

import pytest

from kerf.testing.builders import a_grant
from kerf.wire.annotations import GRANT, render_grant
from sandbox import ControlPlane, Node, await_until, render_scheduler_configuration
from tests.cluster.dra_world import (
    CARDS,
    CLAIMS,
    LEDGER,
    Driver,
    a_claiming_pod,
    allocated,
    await_event,
    claim_spec,
    got,
    install,
    remove_all,
    start_driver,
    submit,
    write_fleet,
    write_policy,
)
from tests.cluster.sandbox_pods import PODS, a_sleeper, await_running

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def driver(control_plane: ControlPlane, node: Node) -> Iterator[Driver]:
    kubeconfig = str(control_plane.kubeconfig_for("system:kube-scheduler"))
    control_plane.start_scheduler(
        configuration=render_scheduler_configuration(kubeconfig, None, profile="default-scheduler")
    )
    yield start_driver(control_plane, node, "dra", install(control_plane, node))
    control_plane.supervisor.stop("deviceplugin")


@pytest.fixture(autouse=True)
def nothing_left(driver: Driver) -> Iterator[None]:
    yield
    remove_all(driver)


def restarts(driver: Driver, pod: str) -> int:
    statuses = driver.cp.api.get(f"{PODS}/{pod}")["status"].get("containerStatuses", ())
    return sum(each["restartCount"] for each in statuses)


def await_hands(driver: Driver, *hands: str) -> None:
    await_until(lambda: driver.hands() == list(hands), f"the cards to be in the hands {hands}")


def await_devices(driver: Driver, cards: int) -> None:
    await_until(lambda: len(driver.devices()) == 2 * cards, f"{cards} cards to be devices")


def test_twenty_pods_with_claims_of_different_sizes_share_four_cards_and_each_ledger_equals_its_claim(driver: Driver):
    await_devices(driver, 4)
    names = [submit(driver, f"dra-{i:02}", claim_spec(memory=f"{1000 + 700 * i}Mi", cores=str(i))) for i in range(20)]

    seen = {name: got(driver, name) for name in names}

    assert seen == {name: allocated(driver, name) for name in names}
    assert [(mib, cores) for [(_, mib, cores)] in seen.values()] == [(1000 + 700 * i, i) for i in range(20)]


def test_whole_cards_two_cards_and_slices_never_meet_on_one_card(driver: Driver):
    submit(driver, "dra-two", claim_spec(count=2, memory="60Gi"))
    submit(driver, "dra-whole", claim_spec("card"))
    by_resource = a_sleeper("dra-resource", "--cat", LEDGER)
    by_resource["spec"]["containers"][0]["resources"] = {"limits": {"gpu.kerf.dev/card": "1"}}
    driver.cp.api.post(PODS, by_resource)
    seen = {name: got(driver, name) for name in ("dra-two", "dra-whole", "dra-resource")}
    submit(driver, "dra-rest", claim_spec())

    assert seen["dra-two"] == allocated(driver, "dra-two")
    assert [mib for _, mib, _ in seen["dra-two"]] == [61_440] * 2
    assert [(mib, cores) for name in ("dra-whole", "dra-resource") for _, mib, cores in seen[name]] == [
        (81_920, 100)
    ] * 2
    assert sorted(card for slices in seen.values() for card, _, _ in slices) == [0, 1, 2, 3]
    [(shared, default, _)] = got(driver, "dra-rest")
    assert (shared in {card for card, _, _ in seen["dra-two"]}, default) == (True, 8192)


def test_a_second_pod_of_a_claim_and_two_containers_of_one_request_are_refused_by_name(driver: Driver):
    submit(driver, "dra-first", claim_spec(memory="1Gi"))
    got(driver, "dra-first")
    driver.cp.api.post(PODS, a_claiming_pod("dra-second", {"own": "dra-first"}))
    twins = a_claiming_pod("dra-twins", {"own": "dra-twins"})
    twins["spec"]["containers"].append({**twins["spec"]["containers"][0], "name": "second"})
    meta = {"name": "dra-twins", "namespace": "default"}
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": claim_spec()}
    driver.cp.api.post(CLAIMS, claim)
    driver.cp.api.post(PODS, twins)

    await_event(driver, "dra-second", "serves one pod")
    await_event(driver, "dra-twins", "containers main and second run together")


def test_several_requests_a_second_best_way_and_long_names_are_kept_and_access_for_administrators_is_refused(
    driver: Driver,
):
    claim, pod = "dra-" + "c" * 249, "dra-" + "p" * 180
    absent = {"cel": {"expression": "device.attributes['gpu.kerf.dev'].model == 'none'"}}
    newer = {"cel": {"expression": "device.attributes['gpu.kerf.dev'].?driver.orValue('') >= '570'"}}
    slice_ = {"deviceClassName": "slice.gpu.kerf.dev"}
    ways = [
        {"name": "none", "deviceClassName": "card.gpu.kerf.dev", "selectors": [absent]},
        {"name": "some", **slice_, "capacity": {"requests": {"memory": "20Gi"}}, "selectors": [newer]},
    ]
    second = {"name": "second", "exactly": {**slice_, "capacity": {"requests": {"memory": "4Gi", "cores": "7"}}}}
    spec = {"requests": [{"name": "first", "firstAvailable": ways}, second]}
    apart = {"constraints": [{"requests": ["first", "second"], "distinctAttribute": "gpu.kerf.dev/uuid"}]}
    meta = {"name": claim, "namespace": "default"}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta}
    driver.cp.api.post(CLAIMS, {**body, "spec": {"devices": {**spec, **apart}}})
    made = a_claiming_pod(pod, {"own": claim})
    main = made["spec"]["containers"][0]
    refs = [{"name": "own", "request": request} for request in ("second", "first")]
    made["spec"]["initContainers"] = [{**main, "name": "before", "args": ["--cat", LEDGER, "--exit", "0"]}]
    made["spec"]["initContainers"][0]["resources"] = {"claims": refs}
    driver.cp.api.post(PODS, made)
    label = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
    driver.cp.api.patch("/api/v1/namespaces/default", label)
    asked = claim_spec(memory="1Gi")
    asked["devices"]["requests"][0]["exactly"]["adminAccess"] = True
    submit(driver, "dra-admin", asked)

    seen = got(driver, pod)
    assert (got(driver, pod, "before"), sorted(seen)) == (seen, sorted(allocated(driver, claim)))
    assert [(mib, cores) for _, mib, cores in seen] == [(4096, 7), (20_480, 0)], "as the first container names them"
    await_event(driver, "dra-admin", "asks for adminAccess, which gpu.kerf.dev does not give")


def test_restarts_of_plugin_and_kubelet_change_no_container_and_lose_no_claim(driver: Driver):
    asked: dict[str, dict[str, Any]] = {f"dra-again-{i}": claim_spec(memory=f"{2000 + i}Mi") for i in range(6)}
    names = list(asked)
    for name in names[:2]:
        submit(driver, name, asked[name])
        got(driver, name)

    driver.cp.kill("deviceplugin")
    for name in names[2:4]:
        submit(driver, name, asked[name], "--exit", "3", "--sleep", "2s")
    driver.cp.restart("deviceplugin")
    driver.cp.kill(driver.node.kubelet)
    driver.node.restart_kubelet()
    for name in names[4:]:
        submit(driver, name, asked[name])

    assert {name: got(driver, name) for name in names} == {name: allocated(driver, name) for name in names}
    await_until(lambda: restarts(driver, names[2]) >= 1, "a container to restart")
    assert got(driver, names[2]) == allocated(driver, names[2])
    assert [restarts(driver, name) for name in names[:2]] == [0, 0]


def test_the_pod_of_a_card_that_is_lost_is_evicted_by_kubernetes_and_its_neighbour_stays(driver: Driver):
    write_policy(driver.policy, "dra", recovery={"mode": "recover"})
    submit(driver, "dra-victim", claim_spec(memory="50Gi"))
    submit(driver, "dra-neighbour", claim_spec(memory="50Gi"))
    [(lost, _, _)], [(other, _, _)] = got(driver, "dra-victim"), got(driver, "dra-neighbour")
    health = {"card": lost, "state": "cordoned", "cause": "XID 79", "code": 79, "moves": True}

    write_fleet(driver.fleet, health=[health])

    gone = lambda: all(p["metadata"]["name"] != "dra-victim" for p in driver.cp.api.get(PODS)["items"])  # noqa: E731
    await_until(gone, "Kubernetes to evict the pod of the lost card")
    submit(driver, "dra-later", claim_spec(memory="25Gi"))
    [(later, _, _)] = got(driver, "dra-later")
    assert lost not in {later, other}
    assert driver.cp.api.get(f"{PODS}/dra-neighbour")["status"]["phase"] == "Running"
    write_fleet(driver.fleet)
    write_policy(driver.policy, "dra")
    healthy = lambda: not any(device.get("taints") for device in driver.devices())  # noqa: E731
    await_until(healthy, "the card to be well again")


def test_a_pool_goes_from_extender_to_claims_card_by_card_while_pods_run(driver: Driver):
    submit(driver, "dra-before", claim_spec())
    got(driver, "dra-before")
    remove_all(driver)
    write_policy(driver.policy, "extender")
    await_hands(driver, *["extender"] * 4)
    await_devices(driver, 0)
    bound = a_sleeper("dra-old", "--cat", LEDGER, schedulerName="nobody")
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3000", "nvidia.com/gpucores": "5"}
    bound["spec"]["containers"][0]["resources"] = {"limits": limits}
    driver.cp.api.post(PODS, bound)
    grant = render_grant(a_grant(CARDS[0], 3000, 5))
    target = {"apiVersion": "v1", "kind": "Node", "name": driver.node.name}
    meta = {"name": "dra-old", "annotations": {GRANT: grant}}
    driver.cp.api.post(
        f"{PODS}/dra-old/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
    )
    assert got(driver, "dra-old") == [(0, 3000, 5)]

    write_policy(driver.policy, "dra")
    await_hands(driver, "extender", "dra", "dra", "dra")
    await_devices(driver, 3)
    names = [submit(driver, f"dra-new-{i}", claim_spec(memory="70Gi")) for i in range(4)]
    started = [name for name in names[:3] if got(driver, name)]

    assert sorted(card for name in started for card, _, _ in allocated(driver, name)) == [1, 2, 3]
    assert not driver.node.output("default", names[3], "main")
    await_running(driver.cp, "dra-old")
    assert restarts(driver, "dra-old") == 0
    driver.cp.api.delete(f"{PODS}/dra-old", grace_seconds=0)
    await_hands(driver, *["dra"] * 4)
    assert [card for card, _, _ in got(driver, names[3])] == [0]
    await_until(lambda: rights(driver) == {*_SLICES, *_CLAIMS}, "every right for claims to have been used")


_SLICES = {(verb, "resourceslices") for verb in ("list", "watch", "create", "update", "delete")}
_CLAIMS = {("get", "resourceclaims"), ("list", "resourceclaims")}


def rights(driver: Driver) -> set[tuple[str, str]]:
    """What the driver was allowed to do with claims and slices, and did."""
    calls = driver.cp.calls_by("system:serviceaccount:kerf-system:kerf-deviceplugin")
    return {(call.verb, call.resource) for call in calls if call.group == "resource.k8s.io" and call.allowed}
