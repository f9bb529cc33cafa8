"""What a pod demands and prefers of a node."""

from typing import Any

import numpy as np
import pytest

from kerf.testing.builders import a_node
from scheduler.core.wishes import Wishes
from scheduler.express.nodes import demands_of, place_of


def a_place(*taints: dict[str, str], unschedulable: bool = False, **labels: str):
    node = a_node()
    node["metadata"]["labels"] = labels
    node["spec"] = {"taints": list(taints), "unschedulable": unschedulable}
    return place_of(node)


def preferred(*weighted: tuple[int, str, str]) -> dict[str, Any]:
    terms = [
        {"weight": weight, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}}
        for weight, key, value in weighted
    ]
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({}, True),
        ({"nodeSelector": {"gpu": "h100"}}, True),
        ({"nodeSelector": {"gpu": "t4"}}, False),
    ],
)
def test_a_selector_decides(spec: dict[str, Any], allowed: bool) -> None:
    assert demands_of(spec).allow(a_place(gpu="h100")) is allowed


def test_a_cordoned_node_and_a_tainted_node_are_closed() -> None:
    tainted = a_place({"key": "gpu", "effect": "NoExecute"})

    assert not demands_of({}).allow(a_place(unschedulable=True))
    assert not demands_of({}).allow(tainted)
    assert demands_of({"tolerations": [{"key": "gpu", "operator": "Exists"}]}).allow(tainted)


def test_a_taint_that_advises_closes_nothing_and_counts_against_the_node() -> None:
    place = a_place({"key": "slow", "effect": "PreferNoSchedule"}, {"key": "old", "effect": "PreferNoSchedule"})

    assert demands_of({}).allow(place)
    assert demands_of({}).wish(place) == (0, 2)
    assert demands_of({"tolerations": [{"key": "slow", "operator": "Exists"}]}).wish(place) == (0, 1)
    assert demands_of({"tolerations": [{"operator": "Exists", "effect": "NoSchedule"}]}).wish(place) == (0, 2)


def test_weights_of_the_preferred_terms_that_match_are_summed() -> None:
    spec = preferred((50, "gpu", "h100"), (30, "zone", "a"), (9, "zone", "b"))

    assert demands_of(spec).wish(a_place(gpu="h100", zone="a")) == (80, 0)


def test_pods_that_demand_the_same_are_one_kind_however_they_are_written() -> None:
    assert demands_of({"nodeSelector": {"a": "1", "b": "2"}}) == demands_of({"nodeSelector": {"b": "2", "a": "1"}})
    assert len({demands_of({}), demands_of({"nodeSelector": None, "tolerations": [], "affinity": {}})}) == 1


def test_points_are_scaled_by_the_best_of_the_nodes_that_fit_as_kube_scheduler_scales_them() -> None:
    wishes = Wishes(np.array([80, 30, 200, 0]), np.array([0, 1, 0, 2]))

    assert wishes.points(np.array([True, True, False, True])).tolist()[:2] == [100 + 100, 37 + 50]
    assert Wishes(np.array([0, 0]), np.array([0, 0])).points(np.array([True, True])).tolist() == [100, 100]
