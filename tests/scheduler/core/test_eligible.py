"""Which nodes a pod's own words allow."""

import pytest

from kerf.vendors.registry import VENDORS
from kerf.wire.objects import parse_node
from scheduler.core.eligible import eligible_nodes

NODES = [
    {"metadata": {"name": "a", "labels": {"gpu": "h100", "rank": "5"}}},
    {"metadata": {"name": "b", "labels": {"gpu": "t4"}}, "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}},
    {"metadata": {"name": "c"}, "spec": {"unschedulable": True}},
    {"metadata": {"name": "d"}, "spec": {"taints": [{"key": "y", "value": "1", "effect": "PreferNoSchedule"}]}},
]


def required(*terms: dict) -> dict:
    selector = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def expression(key: str, operator: str, *values: str) -> dict:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "nodes"),
    [
        ({}, ["a", "d"]),
        ({"nodeSelector": {"gpu": "h100"}}, ["a"]),
        ({"tolerations": [{"key": "x", "operator": "Exists"}]}, ["a", "b", "d"]),
        ({"tolerations": [{"operator": "Exists"}]}, ["a", "b", "c", "d"]),  # a cordoned node is a taint, too
        ({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}, ["a", "c", "d"]),
        ({"tolerations": [{"key": "x", "value": "other"}]}, ["a", "d"]),
        (required(expression("gpu", "Exists")), ["a"]),
        (required(expression("gpu", "DoesNotExist")), ["d"]),
        (required(expression("gpu", "NotIn", "h100")), ["d"]),
        (required(expression("rank", "Gt", "4")), ["a"]),
        (required(expression("rank", "Lt", "4")), []),
        (required(expression("gpu", "In", "t4"), expression("rank", "Exists")), ["a"]),
        (required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["d"]}]}), ["d"]),
        (required({}), []),
    ],
)
def test_words_decide(spec, nodes):
    assert eligible_nodes(spec, [parse_node(node, VENDORS) for node in NODES]) == nodes
