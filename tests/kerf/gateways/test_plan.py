"""Which replicas a gateway is given, with which weights, and who is drained."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.gateways.plan import object_name, plan
from kerf.testing.builders import a_card, a_node_value
from kerf.values.gateways import Drain, Gateway, GatewaySettings, Per, Replica
from kerf.values.health import Health, State
from kerf.values.node import Node
from tests.kerf.gateways.serving import a_replica, rendered, settings_for

ENV = [{"name": "M", "value": "org/m"}, {"name": "P", "value": "81"}]
LOST = Health(State.CORDONED, "XID 79", 1, moves=True)
BROKEN = Health(State.CORDONED, "XID 48", 1)


def weights(*pods: dict[str, Any], settings: GatewaySettings | None = None, **more: Any) -> dict[str, dict[str, int]]:
    """By model, the weight of each target by what it is about."""
    found = rendered(settings or settings_for(Gateway.KNOWAY), *pods, **more)
    return {route.model: {target.about: target.weight for target in route.targets} for route in found.plan.routes}


def a_node_with(*healths: Health, **changes: Any) -> Node:
    cards = tuple(a_card(i, id=f"GPU-node-1-{i}", health=health) for i, health in enumerate(healths))
    return replace(a_node_value(), cards=cards, **changes)


def test_a_replica_weighs_what_it_holds_of_its_card():
    half, tenth = a_replica("half"), a_replica("tenth", 1, memory_mib=8156)

    # 40,780 and 8,156 of 81,559 MiB of an H100
    assert weights(half, tenth) == {"qwen3-8b": {"team-a/half": 500, "team-a/tenth": 100}}


def test_cores_count_where_they_are_the_greater_part():
    assert weights(a_replica("fast", cores=80)) == {"qwen3-8b": {"team-a/fast": 800}}


def test_a_slower_card_weighs_less():
    l4 = a_card(0, id="GPU-node-1-0", model="NVIDIA L4", memory_mib=40_780)

    (weight,) = weights(a_replica("l4"), nodes=[replace(a_node_value(), cards=(l4,))])["qwen3-8b"].values()

    assert 0 < weight < 300  # all of a card that is far slower than an H100


def test_a_pod_without_a_grant_weighs_a_whole_card():
    pod = a_replica("elsewhere")
    del pod["metadata"]["annotations"]["kerf.dev/grant"]

    assert weights(pod) == {"qwen3-8b": {"team-a/elsewhere": 1000}}


def test_of_a_group_only_the_leader_answers_with_the_weight_of_all():
    def member(index: int) -> dict[str, Any]:
        labels = {f"leaderworkerset.sigs.k8s.io/{key}": value for key, value in
                  (("name", "big"), ("group-index", "0"), ("worker-index", str(index)))}  # fmt: skip
        return a_replica(f"big-0-{index}", index, labels=labels)

    assert weights(member(0), member(1)) == {"qwen3-8b": {"team-a/big-0-0": 1000}}


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({"args": ["--model", "org/m"]}, "org/m"),
        ({"args": ["org/m", "--port", "81"]}, "org/m"),
        ({"args": [], "container": {"command": ["vllm", "serve", "org/m"]}}, "org/m"),
        ({"args": ["vllm serve \\\n  'org/m' --port 81"], "container": {"command": ["sh", "-c"]}}, "org/m"),
        ({"args": ["vllm serve $M --port ${P}"], "container": {"command": ["sh", "-c"], "env": ENV}}, "org/m"),
        ({"args": ["vllm serve $X"], "labels": {"kerf.dev/model": "m"}, "container": {"command": ["sh", "-c"]}}, "m"),
        ({"args": ["vllm serve 'a b"], "container": {"command": ["sh", "-c"]}}, "'a"),
        ({"args": ["vllm serve x --served-model-name m | tee l"], "container": {"command": ["sh", "-c"]}}, "m"),
        ({"args": ["--model-path", "org/m"], "image": "lmsysorg/sglang:v0.5", "container": {"command": []}}, "org/m"),
        ({"args": [], "annotations": {"kerf.dev/model": "qwen3-8b;max-len=4096"}}, "Qwen/Qwen3-8B"),
        (
            {
                "args": [],
                "image": "ghcr.io/ollama",
                "annotations": {"kerf.dev/serving-port": "11434", "kerf.dev/model": "m"},
            },
            "m",
        ),
    ],
    ids=[
        "--model",
        "the image's own command",
        "vllm serve",
        "a script over several lines, in quotes",
        "a script's variables",
        "a variable that only the container knows",
        "a quote that is never closed",
        "the end of a command",
        "sglang",
        "the catalogue",
        "another server by its annotation",
    ],
)
def test_the_model_is_what_the_engine_calls_it(changes: dict[str, Any], model: str):
    assert list(weights(a_replica("one", **changes))) == [model]


def test_every_served_name_is_a_model_of_its_own():
    pod = a_replica("two", args=["--model", "m", "--served-model-name", "chat", "qwen3-8b", "--port", "81"])

    assert weights(pod) == {"chat": {"team-a/two": 500}, "qwen3-8b": {"team-a/two": 500}}


@pytest.mark.parametrize(
    ("adapters", "models"),
    [
        (["--lora-modules", "sql=/a", "chat=/b", "--port", "8000"], ["chat", "org/m", "sql"]),
        (["--lora-modules", '{"name": "sql", "path": "/a", "base_model_name": "org/m"}'], ["org/m", "sql"]),
        (["--lora-modules", "/without-a-name", "{"], ["org/m"]),
    ],
)
def test_an_adapter_is_a_model_of_its_own(adapters: list[str], models: list[str]):
    pod = a_replica("one", args=["--model", "org/m", *adapters])

    assert list(weights(pod)) == models
    assert {target.priced for route in rendered(settings_for(Gateway.KNOWAY), pod).plan.routes
            for target in route.targets} == {"org/m"}  # fmt: skip


@pytest.mark.parametrize(
    "pod",
    [
        a_replica("none", image="nginx", args=[]),
        a_replica("kept-out", annotations={"kerf.dev/serving-port": "none"}),
        a_replica("ended", phase="Succeeded"),
        a_replica("elsewhere", namespace="team-b"),
        a_replica("headless", args=["--model", "m", "--headless"]),
        a_replica("second", args=["--model", "m", "--nnodes", "2", "--node-rank", "1"]),
        a_replica("half", image="lmsysorg/sglang:v0.5", args=["--model-path", "m", "--disaggregation-mode=prefill"]),
    ],
    ids=[
        "no engine",
        "an annotation keeps gateways away",
        "it has ended",
        "another namespace",
        "an engine without a server",
        "the second node of an engine",
        "the half of an engine that prefills",
    ],
)
def test_other_pods_are_no_replicas(pod: dict[str, Any]):
    assert weights(pod) == {}


def test_only_pods_with_the_labels_are_served():
    settings = settings_for(Gateway.KNOWAY, pods=(("tier", "gold"),))

    found = weights(a_replica("a"), a_replica("b", labels={"tier": "gold"}), settings=settings)

    assert found == {"qwen3-8b": {"team-a/b": 500}}


def test_without_named_namespaces_no_namespace_takes_the_requests_of_another():
    mine, theirs = a_replica("mine"), a_replica("theirs", namespace="team-b")

    found = weights(mine, theirs, settings=settings_for(Gateway.KNOWAY, namespaces=()))

    assert found == {"team-a/qwen3-8b": {"team-a/mine": 500}, "team-b/qwen3-8b": {"team-b/theirs": 500}}


def test_named_namespaces_share_their_models():
    mine, theirs = a_replica("mine"), a_replica("theirs", namespace="team-b")

    found = weights(mine, theirs, settings=settings_for(Gateway.KNOWAY, namespaces=("team-a", "team-b")))

    assert found == {"qwen3-8b": {"team-a/mine": 500, "team-b/theirs": 500}}


@pytest.mark.parametrize(
    ("node", "left"),
    [
        (a_node_with(Health(), Health()), ["team-a/one", "team-a/two"]),
        (a_node_with(LOST, Health()), ["team-a/two"]),
        (a_node_with(BROKEN, Health()), ["team-a/two"]),
        (a_node_with(Health(), Health(), cordoned=("GPU-node-1-0",)), ["team-a/two"]),
        (a_node_with(LOST, LOST), []),
        (a_node_with(BROKEN, BROKEN), ["team-a/one", "team-a/two"]),
        (a_node_with(LOST, BROKEN), ["team-a/two"]),
        (a_node_with(Health(State.SUSPECT), Health(State.RECOVERING)), ["team-a/one", "team-a/two"]),
    ],
    ids=[
        "well",
        "a lost card",
        "a broken card",
        "cordoned by people",
        "all lost",
        "all broken",
        "the better of two",
        "signs",
    ],
)
def test_a_replica_is_drained_while_others_serve_and_at_once_where_all_is_lost(node: Node, left: list[str]):
    pods = [a_replica("one", 0), a_replica("two", 1)]

    found = rendered(settings_for(Gateway.KNOWAY), *pods, nodes=[node])

    assert [target.about for route in found.plan.routes for target in route.targets] == left
    assert found.left_out == (() if left else ("qwen3-8b: none of its 2 replicas is ready on a healthy card",))


@pytest.mark.parametrize("state", ["not ready", "leaving", "without an address"])
def test_a_replica_that_cannot_answer_gets_nothing(state: str):
    pod = a_replica("one", ready=state != "not ready", address="" if state == "without an address" else "10.0.0.1")
    if state == "leaving":
        pod["metadata"]["deletionTimestamp"] = "2026-11-27T20:00:00Z"

    assert weights(pod) == {"qwen3-8b": {}}


def a_service(name: str, target: object, **selector: str) -> dict[str, Any]:
    spec = {"selector": selector, "ports": [{"port": 80, "targetPort": target}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "team-a"}, "spec": spec}


def test_a_service_weighs_what_its_healthy_replicas_do():
    named = {"ports": [{"name": "http", "containerPort": 8000}]}
    pods = [
        a_replica("one", 0, container=named),
        a_replica("two", 1, container=named),
        a_replica("three", 2, container=named),
    ]
    services = [a_service("metrics", 9000, app="chat"), a_service("chat", "http", app="chat")]
    settings = settings_for(Gateway.KNOWAY, per=Per.SERVICE)

    found = weights(*pods, settings=settings, services=services, nodes=[a_node_with(LOST, Health(), Health())])

    assert found == {"qwen3-8b": {"Service team-a/chat": 1000}}


def test_a_replica_to_which_no_service_leads_is_named():
    found = rendered(
        settings_for(Gateway.KNOWAY, per=Per.SERVICE), a_replica("one"), services=[a_service("x", 8000, app="x")]
    )

    assert "qwen3-8b: no Service leads to team-a/one at port 8000" in found.left_out


def by_service(*pods: dict[str, Any], services: list[dict[str, Any]]) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """Host and port of each target, and what is left out."""
    found = rendered(settings_for(Gateway.KNOWAY, per=Per.SERVICE), *pods, services=services).plan
    return [(target.host, target.port) for route in found.routes for target in route.targets], found.left_out


def test_a_headless_service_is_called_at_the_pods_port_and_comes_last():
    headless = a_service("a-headless", 8000, app="chat")
    headless["spec"]["clusterIP"] = "None"

    assert by_service(a_replica("one"), services=[headless]) == ([("a-headless.team-a.svc", 8000)], ())
    both = [headless, a_service("chat", 8000, app="chat")]
    assert by_service(a_replica("one"), services=both) == ([("chat.team-a.svc", 80)], ())


MISLEADS = (
    "org/other: Service team-a/all leads to team-a/other, and also to mine, which does not serve it there: "
    "give each model a Service of its own"
)


def test_a_service_that_leads_to_another_model_as_well_is_no_target_and_is_named():
    other = a_replica("other", 1, args=["--model", "org/other"])
    everything, own = a_service("all", 8000, app="chat"), a_service("own", 8000, app="chat", model="qwen")
    mine = a_replica("mine", labels={"app": "chat", "model": "qwen"})

    assert by_service(mine, other, services=[everything, own]) == (
        [("own.team-a.svc", 80)],
        (MISLEADS,),
    )


def test_a_service_without_a_replica_that_can_answer_is_no_target():
    assert by_service(a_replica("one", ready=False), services=[a_service("chat", 8000, app="chat")]) == (
        [],
        ("qwen3-8b: none of its 1 replicas is ready on a healthy card",),
    )


def test_different_models_of_one_name_are_named_and_both_get_requests():
    other = a_replica("other", 1, args=["--model", "meta/Llama", "--served-model-name", "qwen3-8b"])
    found = rendered(settings_for(Gateway.KNOWAY), a_replica("one"), a_replica("two", 2), other).plan

    (line,) = found.mixed
    assert line == (
        "qwen3-8b: its replicas load different models, and any of them answers: "
        "Qwen/Qwen3-8B (team-a/two), meta/Llama (team-a/other)"
    )
    assert [len(route.targets) for route in found.routes] == [3]


@pytest.mark.parametrize(
    ("args", "env", "port"),
    [
        (["--port", "$(PORT)"], [{"name": "PORT", "value": "9000"}], 9000),
        (["--port=$(P)"], [{"name": "BASE", "value": "90"}, {"name": "P", "value": "$(BASE)01"}], 9001),
        (["--port", "$(PORT)"], [{"name": "PORT", "valueFrom": {"fieldRef": {}}}], 0),
        (["--port", "$$(PORT)"], [{"name": "PORT", "value": "9000"}], 0),
        (["--port", "$PORT"], [{"name": "PORT", "value": "9000"}], 0),
    ],
)
def test_variables_are_read_as_the_kubelet_replaces_them_and_a_port_that_nobody_knows_is_none(
    args: list[str], env: list[dict[str, Any]], port: int
):
    pod = a_replica("one", args=["--model", "$(M)", *args], container={"env": [*env, {"name": "M", "value": "org/m"}]})
    routes = rendered(settings_for(Gateway.KNOWAY), pod).plan.routes

    assert [(route.model, target.port) for route in routes for target in route.targets] == (
        [("org/m", port)] if port else []
    )


def test_a_container_beside_the_engine_does_not_name_its_model():
    pod = a_replica("one", args=["--model", "org/m"])
    beside = {"name": "proxy", "image": "proxy", "args": ["--model", "of-the-proxy"]}
    pod["spec"]["containers"].insert(0, beside)

    assert list(weights(pod)) == ["org/m"]


REPLICAS = st.builds(
    Replica,
    namespace=st.sampled_from(["a", "b"]),
    name=st.from_regex(r"[a-z]{1,3}", fullmatch=True),
    uid=st.uuids().map(str),
    workload=st.just("Deployment/x"),
    address=st.sampled_from(["10.0.0.1", ""]),
    port=st.just(8000),
    models=st.lists(st.sampled_from(["m", "n/M", "b/m"]), min_size=1, max_size=2, unique=True).map(tuple),
    share=st.integers(1, 3000),
    ready=st.booleans(),
    drain=st.sampled_from(Drain),
)


@given(st.lists(REPLICAS, unique_by=lambda one: (one.namespace, one.name)), st.booleans())
def test_whatever_there_is_a_target_is_able_and_a_model_with_able_replicas_has_one(found: list[Replica], named: bool):
    settings = GatewaySettings(namespaces=("a", "b") if named else ())
    got = plan(found, settings)

    by_uid = {one.uid: one for one in found}
    for route in got.routes:
        uids = [uid for target in route.targets for uid in target.uids]
        assert all(by_uid[uid].ready and by_uid[uid].drain is not Drain.LOST for uid in uids)
        assert all(target.served in by_uid[target.uids[0]].models and target.weight > 0 for target in route.targets)
        if not named:
            assert {by_uid[uid].namespace for uid in uids} <= {route.model.partition("/")[0]}
    names = [target.name for route in got.routes for target in route.targets] + [route.name for route in got.routes]
    assert len(set(names)) == len(names)
    able = {m for one in found if one.ready and one.address and one.drain is not Drain.LOST for m in one.models}
    served = {target.served for route in got.routes for target in route.targets}
    assert able == served


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_are_what_kubernetes_takes_and_differ(one: str, other: str):
    name = object_name(one)

    assert len(name) <= 63
    assert name == name.lower().strip("-")
    assert name.isascii()
    assert (object_name(other) == name) == (one == other)
