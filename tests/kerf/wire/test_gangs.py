"""Gangs as the tools that people use write them."""

from typing import Any

import pytest

from kerf.wire.errors import WireError
from kerf.wire.gangs import gang_of

LWS, JOBSET = "leaderworkerset.sigs.k8s.io", "jobset.sigs.k8s.io"
JOB_SET_POD = {f"{JOBSET}/jobset-name": "train", f"{JOBSET}/replicatedjob-name": "workers", f"{JOBSET}/job-index": "1"}


def owned(kind: str, name: str, **labels: str) -> dict[str, Any]:
    owner = {"apiVersion": "x/v1", "kind": kind, "name": name, "controller": True}
    return {"labels": {"kerf.dev/gang": "g", **labels}, "ownerReferences": [owner]}


@pytest.mark.parametrize(
    ("meta", "gang", "size"),
    [
        ({}, None, 0),
        ({"labels": {"kerf.dev/gang": "g"}, "annotations": {"kerf.dev/gang-size": "4"}}, "d/g", 4),
        ({"labels": {"scheduling.x-k8s.io/pod-group": "pg"}}, "d/pg", 0),
        (
            {
                "labels": {
                    "pod-group.scheduling.sigs.k8s.io/name": "pg",
                    "pod-group.scheduling.sigs.k8s.io/min-available": "3",
                }
            },
            "d/pg",
            3,
        ),
        (
            {
                "labels": {"kueue.x-k8s.io/pod-group-name": "kg"},
                "annotations": {"kueue.x-k8s.io/pod-group-total-count": "2"},
            },
            "d/kg",
            2,
        ),
        ({"annotations": {"scheduling.k8s.io/group-name": "podgroup-1"}}, "d/podgroup-1", 0),
        ({"annotations": {"scheduling.volcano.sh/group-name": "podgroup-2"}}, "d/podgroup-2", 0),
        (
            {
                "labels": {f"{LWS}/name": "vllm", f"{LWS}/group-index": "1", f"{LWS}/group-key": "k"},
                "annotations": {f"{LWS}/size": "2"},
            },
            f"d/{LWS}/vllm/1",
            2,
        ),
        (
            {
                "labels": {f"{LWS}/name": "vllm", f"{LWS}/group-index": "1"},
                "annotations": {f"{LWS}/size": "2", "kerf.dev/gang-size": "1"},
            },
            f"d/{LWS}/vllm/1",
            1,
        ),
        ({"labels": JOB_SET_POD}, None, 0),
        ({"labels": JOB_SET_POD, "annotations": {"kerf.dev/gang-size": "8"}}, f"d/{JOBSET}/train", 8),
        (
            {"labels": JOB_SET_POD, "annotations": {"kerf.dev/gang-size": "4", "kerf.dev/gang-part": "true"}},
            f"d/{JOBSET}/train/workers",
            4,
        ),
    ],
)
def test_a_gang_is_found_where_its_tool_writes_it(meta: dict[str, Any], gang: str | None, size: int) -> None:
    assert gang_of({"namespace": "d", **meta}, {}) == (gang, size)


@pytest.mark.parametrize(
    ("meta", "gang"),
    [
        (owned("Job", "nightly-1"), "d/g@nightly-1"),
        (owned("Job", "nightly-2"), "d/g@nightly-2"),
        (owned("ReplicaSet", "web-5d9c", **{"pod-template-hash": "5d9c"}), "d/g@web"),
        (owned("ReplicaSet", "web-77aa", **{"pod-template-hash": "77aa"}), "d/g@web"),
        (owned("Job", "train-workers-0", **JOB_SET_POD), "d/g@train"),
        (owned("StatefulSet", "vllm-1", **{f"{LWS}/name": "vllm", f"{LWS}/group-index": "1"}), "d/g@vllm/1"),
        (owned("RayCluster", "ray", **{"ray.io/cluster": "ray"}), "d/g@ray"),
        (owned("Job", "a", **{"kerf.dev/gang-scope": "namespace"}), "d/g"),
        ({"labels": {"kerf.dev/gang": "g"}}, "d/g"),
    ],
)
def test_a_label_in_a_template_is_one_gang_for_each_owner_that_is_made_of_it(meta: Any, gang: str) -> None:
    assert gang_of({"namespace": "d", **meta}, {})[0] == gang


def test_kubernetes_own_group_comes_first() -> None:
    meta = {"namespace": "d", "labels": {"kerf.dev/gang": "g"}}

    assert gang_of(meta, {"schedulingGroup": {"podGroupName": "native"}}) == ("d/native", 0)


def test_a_size_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(WireError, match=r"metadata.annotations\[kerf.dev/gang-size\]: 'four'"):
        gang_of({"labels": {"kerf.dev/gang": "g"}, "annotations": {"kerf.dev/gang-size": "four"}}, {})
