"""Malformed input raises WireError and nothing else, whatever it is."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kerf.model.ask import Stage
from kerf.model.policy import Defaults
from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.admission import parse_review
from kerf.wire.annotations import parse_grant, render_grant
from kerf.wire.cdi import parse_spec_devices
from kerf.wire.errors import WireError
from kerf.wire.extender import parse_bind_query, parse_nodes_query, parse_preempt_query
from kerf.wire.hami import parse_allocated, parse_register
from kerf.wire.inventory import parse_inventory, render_inventory
from kerf.wire.objects import parse_holding, parse_node
from kerf.wire.policy import parse_policy
from kerf.wire.resources import parse_pod
from tests.kerf.strategies import DEEP_VALUE, JSON, TEXTS, changed

ANNOTATIONS: dict[str, Callable[[str], object]] = {
    "inventory": parse_inventory,
    "grant": parse_grant,
    "register": lambda text: parse_register(text, "hami.io/node-nvidia-register", "nvidia"),
    "allocated": lambda text: parse_allocated(text, "hami.io/x", "nvidia", (("main", Stage.APP),)),
    "cdi": lambda text: parse_spec_devices(text, "nvidia.com/gpu"),
}
BODIES: dict[str, Callable[[bytes], object]] = {
    "review": parse_review,
    "filter": parse_nodes_query,
    "bind": parse_bind_query,
    "preempt": parse_preempt_query,
}
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "request": {"uid": "u", "kind": {"kind": "Pod"}, "userInfo": {"username": "joe"}, "object": {}, "oldObject": None},
}
FILTER = {"Pod": {}, "NodeNames": ["a"]}
FULL_FILTER = {"Pod": {}, "Nodes": {"items": [{"metadata": {"name": "a"}}]}}
BIND = {"PodNamespace": "d", "PodName": "p", "PodUID": "u", "Node": "n"}
PREEMPT = {"Pod": {}, "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "u"}], "NumPDBViolations": 1}}}
FULL_PREEMPT = {"Pod": {}, "NodeNameToVictims": {"n": {"Pods": [{"metadata": {"uid": "u"}}], "NumPDBViolations": 1}}}
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {
        "nodes": "spread",
        "cards": ["mutex", "binpack"],
        "weights": {"slot": 1, "core": 1, "memory": 3},
        "defaults": {"memoryMiB": 0, "cores": 0, "cards": 1, "wholeCardCores": True},
        "pools": [{"name": "p", "nodeSelector": {"a": "b"}, "memoryOvercommit": 1.5, "coresOvercommit": 2}],
        "planner": {"enabled": True, "maxPods": 5, "deterministicLimit": 1, "gangTimeoutSeconds": 60},
    },
}
CDI = {
    "kind": "nvidia.com/gpu",
    "containerEdits": {"env": ["A=1"]},
    "devices": [{"name": "GPU-0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
}
REGISTER = [
    {"id": "GPU-0", "count": 10, "devmem": 1, "devcore": 100, "type": "NVIDIA", "mode": "hami-core", "health": True}
]
POD = a_pod(
    init=[a_container("fetch")],
    labels={"kerf.dev/gang": "g"},
    annotations={
        "kerf.dev/gang-size": "2",
        "hami.io/node-scheduler-policy": "spread",
        "hami.io/gpu-scheduler-policy": "mutex",
        "hami.io/device-scoring-weights": "slot=1,core=1,memory=3",
        "nvidia.com/use-gpuuuid": "a,b",
        "nvidia.com/vgpu-mode": "mig",
        "nvidia.com/numa-bind": "true",
    },
    spec={"priority": 1, "overhead": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}, "schedulingGroup": {}},
    node="node-1",
    grant=a_grant(),
)
NODE = a_node()


@pytest.mark.parametrize("parse", ANNOTATIONS.values(), ids=ANNOTATIONS)
@given(text=TEXTS)
def test_any_text_in_an_annotation(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(WireError):
        parse(text)


@pytest.mark.parametrize("parse", BODIES.values(), ids=BODIES)
@given(body=TEXTS.map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=20))
def test_any_bytes_in_a_body(parse: Callable[[bytes], object], body: bytes) -> None:
    with contextlib.suppress(WireError):
        parse(body)


@given(changed(json.loads(render_inventory((a_card(links=("GPU-1",), physical_mib=5),)))))
def test_an_inventory_with_one_thing_wrong(document: Any) -> None:
    with contextlib.suppress(WireError):
        parse_inventory(json.dumps(document))


@given(changed(json.loads(render_grant(a_grant()))))
def test_a_grant_with_one_thing_wrong(document: Any) -> None:
    with contextlib.suppress(WireError):
        render_grant(parse_grant(json.dumps(document)))


@given(changed(REGISTER))
def test_a_registration_with_one_thing_wrong(document: Any) -> None:
    with contextlib.suppress(WireError):
        parse_register(json.dumps(document), "key", "nvidia")


@given(changed(CDI))
def test_a_cdi_spec_with_one_thing_wrong(document: Any) -> None:
    with contextlib.suppress(WireError):
        parse_spec_devices(json.dumps(document), "nvidia.com/gpu")


@given(changed(POLICY))
def test_a_policy_with_one_thing_wrong(document: Any) -> None:
    with contextlib.suppress(WireError):
        parse_policy(document)


@pytest.mark.parametrize(
    ("parse", "document"),
    [
        (parse_review, REVIEW),
        (parse_nodes_query, FILTER),
        (parse_nodes_query, FULL_FILTER),
        (parse_bind_query, BIND),
        (parse_preempt_query, PREEMPT),
        (parse_preempt_query, FULL_PREEMPT),
    ],
    ids=["review", "filter", "filter with nodes", "bind", "preempt", "preempt with pods"],
)
@given(data=st.data())
def test_a_body_with_one_thing_wrong(parse: Callable[[bytes], object], document: Any, data: st.DataObject) -> None:
    body = json.dumps(data.draw(changed(document))).encode()
    with contextlib.suppress(WireError):
        parse(body)


@given(changed(POD, JSON | st.just(DEEP_VALUE)))
def test_a_pod_with_one_thing_wrong(pod: Any) -> None:
    if not isinstance(pod, dict):
        return
    with contextlib.suppress(WireError):
        parse_pod(pod, NAMES, Defaults())
    with contextlib.suppress(WireError):
        parse_holding(pod, VENDORS)


@given(changed(NODE, JSON | st.just(DEEP_VALUE)))
def test_a_node_with_one_thing_wrong_is_read_with_its_problem(node: Any) -> None:
    if isinstance(node, dict):
        parse_node(node, VENDORS)


def test_values_too_deep_to_print() -> None:
    """Hypothesis lifts the recursion limit, so this one is tried without it."""
    pod = a_pod(annotations={"hami.io/gpu-scheduler-policy": DEEP_VALUE}, node=DEEP_VALUE)
    node = a_node() | {"status": {"allocatable": {"cpu": DEEP_VALUE}}}

    with pytest.raises(WireError, match=r"pod: '…': nest its values less deeply"):
        parse_pod(pod, NAMES, Defaults())
    with pytest.raises(WireError, match=r"pod: '…': nest its values less deeply"):
        parse_holding(pod | {"metadata": {"annotations": {"kerf.dev/grant": "{}"}}}, VENDORS)
    assert (parse_node(node, VENDORS).cards, parse_node(node, VENDORS).problem) == (
        (),
        "not a quantity but of type list",
    )


@pytest.mark.parametrize("depth", [900, 1020])
def test_deep_nesting_has_a_short_message(depth: int) -> None:
    deep = orjson.loads("[" * depth + "]" * depth)

    assert str(WireError("field", deep, "flatten it")) == "field: '[[[[[[[...]]]]]]]': flatten it"


@given(JSON)
@example("x" * 1_000_000)
def test_a_message_is_short_whatever_the_value(value: Any) -> None:
    assert len(str(WireError("f", value, "x"))) < 400
