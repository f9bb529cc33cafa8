"""Objects of all four gateways on a real API server: schemas, weights, pruning, and a drain before an eviction."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerf.gateways.objects import KINDS, OWNER
from kerf.testing.builders import a_container, cards_of
from kerf.values.gateways import Gateway
from kerf.values.health import Health, State
from kerf.wire.annotations import GRANT, parse_grant
from kerf.wire.inventory import render_inventory
from sandbox import ControlPlane, await_until
from sandbox.api import ApiError
from sandbox.crds import install_crds
from sandbox.stack import EXTENDER
from tests.cluster import gateway_crds
from tests.cluster.gpu_pods import PODS, a_fake_node, a_fleet, a_gpu_pod, await_bound, create

pytestmark = pytest.mark.cluster
NODE = "serving"
SETTLE_S = 3
POLICY: dict[str, Any] = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {
        "cards": ["spread"],
        "recovery": {"mode": "recover"},
        "gateways": {
            "to": list(Gateway), "namespace": "default", "namespaces": ["default"], "gateway": "models",
            "picker": "epp:9002", "tokensPerMinute": 1000, "requestsPerMinute": 60, "settleSeconds": SETTLE_S,
            "drainSeconds": 30,
        },
    },
}  # fmt: skip


def a_replica(name: str, mem: int) -> dict[str, Any]:
    """A replica of the model `chat` that holds some of a card's memory."""
    main = {**a_container(mem=mem, cores=10), "image": "vllm/vllm-openai:v0.20.2", "args": ["--model", "chat"]}
    return a_gpu_pod(name, labels={"app": "chat"}, containers=[main])


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the scheduler reads again when it has changed."""
    path = tmp_path_factory.mktemp("gateways") / "policy.yaml"
    path.write_text(json.dumps(POLICY))
    return path


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane, policy: Path) -> Iterator[ControlPlane]:
    """One node with two cards; a replica on each, one with half of its card and one with a tenth."""
    install_crds(control_plane)
    gateway_crds.install(control_plane)
    with a_fleet(control_plane, [a_fake_node(NODE, 2)], "--config", str(policy)):
        create(control_plane, a_replica("half", 40_780))
        await_bound(control_plane, "half")
        create(control_plane, a_replica("tenth", 8156))
        await_bound(control_plane, "tenth")
        yield control_plane


def owned(cp: ControlPlane, gateway: Gateway) -> dict[str, list[dict[str, Any]]]:
    return {
        kind.kind: cp.api.get(f"{kind.everywhere}?labelSelector={OWNER}%3D{gateway}")["items"]
        for kind in KINDS[gateway]
    }


def weights(cp: ControlPlane) -> dict[str, int]:
    """Weight by replica, as knoway has it."""
    before, routes, after = (owned(cp, Gateway.KNOWAY) for _ in range(3))  # a backend outlives the routes that name it
    backends = before["LLMBackend"] + after["LLMBackend"]
    about = {one["metadata"]["name"]: one["metadata"]["annotations"]["kerf.dev/gateway-about"] for one in backends}
    targets = [t["destination"] for route in routes["ModelRoute"] for t in route["spec"]["route"]["targets"]]
    return {about[target["backend"]].partition("/")[2]: target["weight"] for target in targets}


def in_envoy(cp: ControlPlane) -> list[int]:
    routes = owned(cp, Gateway.ENVOY)["AIGatewayRoute"]
    return sorted(ref["weight"] for route in routes for rule in route["spec"]["rules"] for ref in rule["backendRefs"])


def in_pool(cp: ControlPlane) -> list[str]:
    (pool,) = owned(cp, Gateway.POOL)["InferencePool"]
    selector = pool["spec"]["selector"]["matchLabels"]
    pods = cp.api.get(PODS)["items"]
    chosen = [pod for pod in pods if selector.items() <= pod["metadata"].get("labels", {}).items()]
    return sorted(pod["metadata"]["name"] for pod in chosen)


def test_every_kind_is_taken_by_its_schema_and_replicas_weigh_what_they_hold(cp: ControlPlane) -> None:
    await_until(lambda: weights(cp) == {"half": 500, "tenth": 100}, "knoway's weights")
    await_until(lambda: in_envoy(cp) == [100, 500], "Envoy's weights")
    await_until(lambda: in_pool(cp) == ["half", "tenth"], "the pool to have both")

    counts = {gateway: {kind: len(items) for kind, items in owned(cp, gateway).items()} for gateway in Gateway}
    assert counts == {
        Gateway.KNOWAY: {"LLMBackend": 2, "ModelRoute": 1},
        Gateway.LITELLM: {"ConfigMap": 1},
        Gateway.ENVOY: {"Backend": 2, "AIServiceBackend": 2, "AIGatewayRoute": 1, "BackendTrafficPolicy": 1},
        Gateway.POOL: {"InferencePool": 1},
    }


def test_what_is_deleted_comes_back(cp: ControlPlane) -> None:
    await_until(lambda: bool(owned(cp, Gateway.KNOWAY)["ModelRoute"]), "a route")
    (route,) = owned(cp, Gateway.KNOWAY)["ModelRoute"]
    path = f"/apis/llm.knoway.dev/v1alpha1/namespaces/default/modelroutes/{route['metadata']['name']}"

    cp.api.delete(path)

    await_until(lambda: bool(owned(cp, Gateway.KNOWAY)["ModelRoute"]), "the route to be written again")


def test_a_limit_that_the_policy_takes_back_leaves_the_objects(cp: ControlPlane, policy: Path) -> None:
    def limits() -> list[str]:
        (found,), (route,) = (owned(cp, Gateway.ENVOY)["BackendTrafficPolicy"], owned(cp, Gateway.KNOWAY)["ModelRoute"])
        return sorted(found["spec"].keys() & {"rateLimit", "retry"}) + sorted(route["spec"].keys() & {"filters"})

    await_until(lambda: limits() == ["rateLimit", "retry", "filters"], "the limits to be written", 60)
    gateways = {**POLICY["spec"]["gateways"], "tokensPerMinute": 0, "requestsPerMinute": 0}
    policy.write_text(json.dumps({**POLICY, "spec": {**POLICY["spec"], "gateways": gateways}}))

    await_until(lambda: limits() == ["retry"], "the limits to leave the objects", 60)


def test_a_replica_of_a_lost_card_is_drained_everywhere_before_it_is_evicted(cp: ControlPlane) -> None:
    await_until(lambda: in_pool(cp) == ["half", "tenth"], "both replicas to be served")
    grant = parse_grant(cp.api.get(f"{PODS}/half")["metadata"]["annotations"][GRANT])
    lost = Health(State.CORDONED, "XID 79", int(time.time()), 79, moves=True, needs_reset=True)
    card = grant.containers[0].slices[0].card
    cards = tuple(replace(one, health=lost) if one.id == card else one for one in cards_of(NODE, 2))

    cp.api.patch(
        f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": {"kerf.dev/inventory": render_inventory(cards)}}}
    )
    await_until(lambda: "half" not in weights(cp), "knoway to have no target for it")
    await_until(lambda: in_envoy(cp) == [100], "Envoy to have no target for it")
    await_until(lambda: not still_there(cp, "half"), "it to be evicted")

    faulty, evicted = written(cp, "admin", "nodes")[-1], written(cp, EXTENDER, "pods/eviction")[-1]
    for routes in ("modelroutes", "aigatewayroutes"):
        drained = [at for at in written(cp, EXTENDER, routes) if faulty < at < evicted]
        assert evicted - drained[-1] >= SETTLE_S, routes
    assert (weights(cp), in_pool(cp)) == ({"tenth": 100}, ["tenth"])


def written(cp: ControlPlane, user: str, resource: str) -> list[float]:
    """When somebody wrote to objects of a kind, by the audit log: what a test sees, it may see late."""
    return [write.at for write in cp.writes_by(user) if write.resource == resource and write.code < 300]


def still_there(cp: ControlPlane, name: str) -> bool:
    try:
        return "deletionTimestamp" not in cp.api.get(f"{PODS}/{name}")["metadata"]
    except ApiError as error:
        if error.status != 404:
            raise
        return False
