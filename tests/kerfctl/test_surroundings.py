"""`simulate` and `explain` live where the webhook, kube-scheduler and the kubelet live."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_container, a_grant, a_node, a_pod
from kerfctl.main import main

CONTAINER = {"name": "main", "image": "app"}


def asks(**limits: Any) -> dict[str, Any]:
    amounts = {f"nvidia.com/{key}": value for key, value in limits.items()}
    return {**CONTAINER, "resources": {"limits": amounts}}


def new_pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod as people write it: nothing that an API server adds."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": list(containers) or [asks(gpumem=8000)], **spec},
    }


@pytest.fixture
def kerf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a verb on objects; the exit status and the JSON answer."""

    def run(verb: str, *objects: dict[str, Any], pod: str = "") -> tuple[int, Any]:
        state = tmp_path / "state.yaml"
        state.write_text(yaml.safe_dump_all(objects))
        where = [str(state)] if verb == "simulate" else [pod, "--file", str(state)]
        status = main([verb, *where, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


BOTH = {"limits": {"nvidia.com/gpumem": 2}, "requests": {"nvidia.com/gpumem": 1}}
LIMITS = "spec.containers[main].resources.limits"


@pytest.mark.parametrize(
    ("pod", "beginning"),
    [
        (new_pod("p", asks(vgpu=1, gpumem=1)), "no node offers nvidia.com/vgpu; did you mean nvidia.com/gpu?"),
        (
            new_pod("p", asks(gpu=1, gpumemory=1)),
            "no node offers nvidia.com/gpumemory; did you mean nvidia.com/gpumem?",
        ),
        (
            new_pod("p", {**CONTAINER, "resources": BOTH}),
            f"refused at creation: {LIMITS}[nvidia.com/gpumem]: '2': the req",
        ),
        (
            new_pod("p", schedulerName="other"),
            "refused at creation: spec.schedulerName: 'other': it cannot divide cards",
        ),
        (new_pod("p", schedulingGates=[{"name": "a/b"}]), "scheduling gates hold it back: a/b"),
        (
            new_pod("p", CONTAINER, resources={"limits": {"nvidia.com/gpu": 1}}),
            "refused at creation: spec.resources.limits[nvidia.com/gpu]: '1': write it on the container that uses it",
        ),
        (new_pod("p", nodeName="node-1"), "refused at creation: spec.nodeName: 'node-1': drop it, it bypasses"),
        (
            a_pod("p", spec={"schedulerName": "default-scheduler"}),
            "it names scheduler default-scheduler, which cannot divide cards; Kerf's is kerf-scheduler",
        ),
        (
            new_pod("p", asks(gpu=0.5)),
            f"refused at creation: {LIMITS}[nvidia.com/gpu]: '0.5': write a whole number from 0",
        ),
    ],
)
def test_a_pod_that_never_gets_a_card_hears_why_from_both_verbs(kerf: Any, pod: dict[str, Any], beginning: str) -> None:
    _, simulated = kerf("simulate", a_node(), pod)
    status, explained = kerf("explain", a_node(), pod, pod="p")

    (refused,) = simulated["refused"]
    assert (status, simulated["pods"], explained["sentence"]) == (1, [], refused["reason"])
    assert refused["reason"].startswith(beginning)


def test_the_webhook_fills_in_what_a_new_pod_leaves_out_and_its_warnings_are_shown(kerf: Any) -> None:
    status, found = kerf("simulate", a_node(), new_pod("p", asks(gpumem=8000, gpucores=150)))

    (pod,) = found["pods"]
    assert (status, [(s["memory_mib"], s["cores"]) for s in pod["slices"]]) == (0, [(8000, 100)])
    assert found["notes"] == [f"default/p: {LIMITS}[nvidia.com/gpucores]: a card has 100, so 100 was written for 150"]


def test_other_devices_are_counted_as_kube_scheduler_counts_them(kerf: Any) -> None:
    node = a_node()
    node["status"]["allocatable"]["example.com/nic"] = "3"
    nic = {**CONTAINER, "resources": {"limits": {"nvidia.com/gpumem": 100, "example.com/nic": 2}}}
    held = a_pod(
        "held", node="node-1", phase="Running", containers=[{**nic, "resources": {"limits": {"example.com/nic": 1}}}]
    )

    _, found = kerf("simulate", node, held, new_pod("first", nic), new_pod("second", nic))

    assert [pod["name"] for pod in found["pods"]] == ["first"]
    assert [line["reason"] for line in found["refused"]] == [
        "no node that it may use has enough: too little example.com/nic"
    ]


def test_a_resized_pod_counts_with_what_the_kubelet_allocated(kerf: Any) -> None:
    grown = a_pod("grown", node="node-1", phase="Running", containers=[CONTAINER])
    grown["status"]["containerStatuses"] = [{"name": "main", "allocatedResources": {"cpu": "95"}}]
    wants = {**asks(gpumem=100), "resources": {"limits": {"nvidia.com/gpumem": 100}, "requests": {"cpu": "2"}}}

    _, found = kerf("simulate", a_node(), grown, new_pod("p", wants))

    assert found["pods"] == []
    assert "2,000 thousandths of a core asked, 1,000 free" in found["refused"][0]["reason"]


def test_what_is_not_read_is_named_and_the_exit_status_is_not_0(kerf: Any) -> None:
    strange = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "train"}, "spec": {}}

    status, found = kerf("simulate", a_node(), strange, new_pod("p"))
    explained, answer = kerf("explain", a_node(), strange, new_pod("p"), pod="p")

    assert (status, found["left_out"], [pod["name"] for pod in found["pods"]]) == (
        1,
        ["not read: Workflow train"],
        ["p"],
    )
    assert (explained, answer["fits"]) == (1, True)


def test_a_suspended_job_makes_no_pods_and_says_so(kerf: Any) -> None:
    spec = {"suspend": True, "template": {"spec": {"containers": [asks(gpumem=1)]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "later"}, "spec": spec}

    status, found = kerf("simulate", a_node(), job)

    assert (status, found["pods"], found["notes"]) == (0, [], ["default/later: Job: it is suspended and makes no pods"])


def test_a_gang_that_has_no_place_for_all_is_named(kerf: Any) -> None:
    pods = [new_pod(f"p-{i}", asks(gpumem=60_000)) for i in range(2)]
    for pod in pods:
        pod["metadata"] |= {"labels": {"kerf.dev/gang": "tr"}, "annotations": {"kerf.dev/gang-size": "2"}}

    _, found = kerf("simulate", a_node(cards=1), *pods)

    assert found["notes"] == ["gang default/tr: 1 of 2 pods have a place; none starts before all have one"]


def test_explain_distinguishes_pods_that_are_not_there_have_finished_or_ask_for_no_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.yaml"
    done = a_pod("done", phase="Succeeded", node="node-1")
    held = a_pod("held", node="node-1", grant=a_grant("GPU-node-1-0"), phase="Running")
    template = {"spec": {"containers": [a_container()]}}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template}}
    state.write_text(yaml.safe_dump_all([a_node(), done, held, web, new_pod("plain", CONTAINER)]))
    said = {}
    for name in ("done", "plain", "web", "nothing"):
        assert main(["explain", name, "--file", str(state)]) == 1
        said[name] = capsys.readouterr().err

    assert said == {
        "done": "kerf: pod default/done has finished: Succeeded\n",
        "plain": "kerf: pod default/plain asks for no card\n",
        "web": "kerf: pod default/web does not exist; there are default/web-0\n",
        "nothing": "kerf: pod default/nothing does not exist\n",
    }


def test_what_a_reader_of_files_warns_of_is_said_once(
    kerf: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = {"name": "rq", "namespace": "n"}
    hard = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta,
            "spec": {"hard": {"limits.nvidia.com/gpumem": "1500m"}}}  # fmt: skip
    unreadable = a_node("broken", **{"kerf.dev/inventory": "{"})
    either = new_pod("either", asks(gpu=1))
    either["metadata"]["annotations"] = {"kerf.dev/accepts": "H100 | A100"}

    kerf("simulate", a_node(), unreadable, hard, either, new_pod("p"))

    counted = "namespace n: ResourceQuota rq: spec.hard[limits.nvidia.com/gpumem] of 1500m is counted as 1: write MiB"
    said = [record.getMessage() for record in caplog.records]
    assert said.count(counted) == 1
    assert len([line for line in said if line.startswith("node broken: ")]) == 1
    assert len(said) == 2
