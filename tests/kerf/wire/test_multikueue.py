"""What a dispatcher reads of MultiKueue's objects."""

import base64
import copy
import json

import pytest

from kerf.wire.errors import WireError
from kerf.wire.multikueue import (
    ALLOWED_FLAVORS,
    parse_dispatchable,
    parse_kubeconfig,
    render_nomination,
    render_pin,
    secret_of,
)

CLASS = "class.kerf.dev/nvidia-h100-shared"
FLAVORS = {"h100": {CLASS: "true", "zone": "a"}}
WORKLOAD = {
    "metadata": {"namespace": "ml", "name": "job-train", "uid": "u", "resourceVersion": "7"},
    "spec": {
        "queueName": "team",
        "podSets": [{"name": "main", "count": 3, "template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}],
    },
    "status": {
        "conditions": [{"type": "QuotaReserved", "status": "True"}],
        "admissionChecks": [{"name": "mk", "state": "Pending"}, {"name": "other", "state": "Ready"}],
        "admission": {"podSetAssignments": [{"name": "main", "count": 2, "flavors": {"mib": "h100", "cores": "h100"}}]},
    },
}


def changed(**status):
    workload = copy.deepcopy(WORKLOAD)
    workload["status"] |= status
    return workload


def test_a_workload_with_quota_shows_the_pods_that_the_manager_admitted_and_their_class():
    one = parse_dispatchable(WORKLOAD, ["mk"], FLAVORS)

    assert (one.key, one.queue, one.check, one.version, one.classes) == (
        "ml/job-train",
        "team",
        "mk",
        "7",
        ("nvidia-h100-shared",),
    )
    (group,) = one.groups
    assert group.count == 2
    assert group.pod["spec"]["nodeSelector"] == {"disk": "ssd", CLASS: "true", "zone": "a"}
    assert WORKLOAD["spec"]["podSets"][0]["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}


@pytest.mark.parametrize(
    "workload",
    [
        changed(conditions=[]),
        changed(conditions=[{"type": "QuotaReserved", "status": "True"}, {"type": "Finished", "status": "True"}]),
        changed(conditions=[{"type": "QuotaReserved", "status": "True"}, {"type": "Evicted", "status": "True"}]),
        changed(clusterName="near"),
        changed(admissionChecks=[{"name": "mk", "state": "Ready"}]),
        changed(admissionChecks=[{"name": "mk", "state": "Pending"}, {"name": "other", "state": "Pending"}]),
        changed(admissionChecks=[{"name": "other", "state": "Pending"}]),
        {**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "deletionTimestamp": "now"}},
    ],
)
def test_a_workload_that_kueue_would_not_send_anywhere_is_left_alone(workload):
    assert parse_dispatchable(workload, ["mk"], FLAVORS) is None


def test_a_nomination_is_refused_by_the_server_when_the_workload_has_changed():
    assert render_nomination(["near"], "7") == {
        "metadata": {"resourceVersion": "7"},
        "status": {"nominatedClusterNames": ["near"]},
    }
    assert render_pin(["b", "a"]) == {"metadata": {"annotations": {ALLOWED_FLAVORS: "a,b"}}}


def a_secret(**user):
    config = {"users": [{"name": "u", "user": user}], "clusters": [{"cluster": {"server": "https://a"}}]}
    return {"data": {"kubeconfig": base64.b64encode(json.dumps(config).encode()).decode()}}


def test_a_kubeconfig_with_all_it_needs_is_read():
    assert parse_kubeconfig(a_secret(token="t"))["users"] == [{"name": "u", "user": {"token": "t"}}]


@pytest.mark.parametrize("key", ["exec", "auth-provider", "tokenFile", "client-certificate", "client-key"])
def test_a_kubeconfig_may_neither_run_a_program_nor_read_a_file(key):
    with pytest.raises(WireError, match=f"users.user.{key}.*inline certificate data"):
        parse_kubeconfig(a_secret(**{key: "x"}))


@pytest.mark.parametrize("secret", [{}, {"data": {"kubeconfig": "%"}}, {"data": {"kubeconfig": "WzFd"}}])
def test_a_secret_without_a_kubeconfig_says_what_to_write(secret):
    with pytest.raises(WireError, match="write a kubeconfig there"):
        parse_kubeconfig(secret)


def test_a_cluster_without_a_secret_is_refused():
    assert secret_of({"spec": {"clusterSource": {"kubeConfig": {"location": "near"}}}}) == "near"
    with pytest.raises(WireError, match="locationType Secret"):
        secret_of({"spec": {"clusterSource": {"clusterProfileRef": {"name": "x"}}}})
