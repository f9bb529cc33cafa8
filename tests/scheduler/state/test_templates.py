"""What pods of one template have in common is read once, and nothing of one pod leaks into another."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kerf.testing.builders import a_grant, a_pod
from kerf.values.ask import PodAsk
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.errors import WireError
from kerf.wire.resources import parse_pod, stages_of
from scheduler.state.bookings import booking_of
from scheduler.state.templates import MOST, Template, Templates, _parts, _pod_of, read

HELD = frozenset({"nvidia"})
OWNER = {"kind": "ReplicaSet", "name": "chat-7d", "uid": "rs", "controller": True}


def template_of(templates: Templates, pod: dict[str, Any], held: frozenset[str] = HELD) -> Template:
    return templates.of(templates.common(pod), held)


def a_bound_pod(name: str = "chat-1", card: str = "c0") -> dict[str, Any]:
    """One of a Deployment's pods, with all that the API server, the kubelet and a network plugin write into it."""
    pod = a_pod(name)
    pod["metadata"] |= {
        "uid": f"uid-{name}",
        "labels": {"app": "chat", "pod-template-hash": "7d", "statefulset.kubernetes.io/pod-name": name},
        "annotations": {
            GRANT: render_grant(a_grant(card)),
            "cni.projectcalico.org/podIP": f"10.0.0.{len(name)}",
            "nvidia.com/use-gputype": "H100",
        },
        "ownerReferences": [OWNER],
    }
    pod["spec"] |= {"nodeName": f"node-of-{name}", "hostname": name, "volumes": [{"name": f"kube-api-access-{name}"}]}
    pod["spec"]["containers"][0] |= {
        "image": "vllm/vllm-openai",
        "args": ["serve", "m"],
        "volumeMounts": [{"name": f"kube-api-access-{name}", "mountPath": "/var/run/secrets"}],
    }
    moment = {"type": "PodScheduled", "status": "True", "lastTransitionTime": f"2026-01-01T00:00:{len(name):02}Z"}
    pod["status"] = {"phase": "Running", "conditions": [moment], "podIP": name}
    return pod


def test_pods_of_one_template_are_read_once_and_each_keeps_its_own() -> None:
    templates = Templates(VENDORS)
    first, second = a_bound_pod("chat-1", "c0"), a_bound_pod("chat-10", "c7")

    found = [booking_of(pod, VENDORS, templates) for pod in (first, second)]

    assert found == [booking_of(pod, VENDORS, Templates(VENDORS)) for pod in (first, second)]
    assert template_of(templates, first) is template_of(templates, second)
    assert [(each.uid, each.node, *each.uses) for each in found] == [
        ("uid-chat-1", "node-of-chat-1", "c0"),
        ("uid-chat-10", "node-of-chat-10", "c7"),
    ]
    assert [each.subject.bound_ms % 60_000 for each in found] == [6000, 7000]
    assert {each.subject.workload for each in found} == {"Deployment/chat"}


def test_a_pod_that_nothing_controls_is_its_own_workload() -> None:
    templates = Templates(VENDORS)
    pods = [a_bound_pod("one"), a_bound_pod("two")]
    for pod in pods:
        pod["metadata"]["ownerReferences"] = [OWNER | {"controller": False}]

    assert [booking_of(pod, VENDORS, templates).subject.workload for pod in pods] == ["Pod/one", "Pod/two"]


CHANGES: list[tuple[tuple[str | int, ...], Any]] = [
    (("metadata", "namespace"), "other"),
    (("metadata", "labels", "kerf.dev/gang"), "g"),
    (("metadata", "annotations", "kerf.dev/gang-size"), "3"),
    (("metadata", "annotations", "nvidia.com/use-gputype"), "L4"),
    (("metadata", "annotations", "kerf.dev/model"), "n"),
    (("metadata", "ownerReferences"), [OWNER | {"name": "talk-7d"}]),
    (("spec", "priority"), 7),
    (("spec", "priorityClassName"), "high"),
    (("spec", "overhead"), {"cpu": "1"}),
    (("spec", "nodeSelector"), {"zone": "a"}),
    (("spec", "containers", 0, "resources", "requests"), {"cpu": "3"}),
    (("spec", "containers", 0, "args"), ["serve", "n"]),
    (("status", "containerStatuses"), [{"name": "main", "allocatedResources": {"cpu": "9"}}]),
    (("status", "allocatedResources"), {"cpu": "9"}),
    (
        ("status", "conditions"),
        [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
    ),
]


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=lambda part: str(part)[:60])
def test_pods_that_differ_in_what_is_read_have_other_templates(path: tuple[str | int, ...], value: object) -> None:
    templates, pod = Templates(VENDORS), a_bound_pod()
    other: Any = copy.deepcopy(pod)
    at: Any = other
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value

    before = booking_of(pod, VENDORS, templates)

    assert booking_of(other, VENDORS, templates) == booking_of(other, VENDORS, Templates(VENDORS))
    assert booking_of(pod, VENDORS, templates) == before
    assert template_of(templates, other) is not template_of(templates, pod)


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=lambda part: str(part)[:60])
def test_what_is_left_out_of_the_template_changes_nothing(path: tuple[str | int, ...], value: object) -> None:
    pod: Any = a_bound_pod()
    at: Any = pod
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    whole: dict[str, Any] = {"metadata": dict(pod["metadata"]), "spec": pod["spec"], "status": pod["status"]}
    whole["metadata"].pop("name")
    whole["status"] = {k: v for k, v in whole["status"].items() if k != "conditions"} | {
        "conditions": [each for each in whole["status"]["conditions"] if each["type"] != "PodScheduled"]
    }

    assert read(_pod_of(_parts(pod)), HELD, VENDORS) == read(whole, HELD, VENDORS)


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=lambda part: str(part)[:60])
def test_a_waiting_pod_asks_the_same_whichever_of_its_template_was_read(
    path: tuple[str | int, ...], value: object
) -> None:
    templates, pods = Templates(VENDORS), [a_bound_pod("chat-1"), a_bound_pod("chat-2")]
    for number, pod in enumerate(pods):
        at: Any = pod
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        del pod["spec"]["nodeName"], pod["status"]
        if number:
            pod["metadata"] |= {"generateName": "chat-", "name": ""}

    for pod in (*pods, *pods):
        whole = parse_pod(pod, NAMES, Defaults())
        assert templates.ask_of(pod, Defaults()) == (whole, stages_of(pod["spec"]))


def test_other_defaults_are_another_ask() -> None:
    templates, pod = Templates(VENDORS), a_bound_pod()
    del pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpumem"]
    every = (Defaults(memory_mib=1000), Defaults(memory_mib=2000), Defaults(memory_mib=1000))

    found = [templates.ask_of(pod, each)[0].containers for each in every]

    assert found == [parse_pod(pod, NAMES, each).containers for each in every]
    assert found[0] != found[1]


def test_a_pod_that_cannot_be_read_is_an_error_each_time() -> None:
    templates, pod = Templates(VENDORS), a_bound_pod()
    pod["spec"]["priority"] = "high"

    for _ in range(2):
        with pytest.raises(WireError, match=r"spec\.priority"):
            templates.ask_of(pod, Defaults())


def test_cards_of_another_vendor_are_another_reach() -> None:
    templates, pod = Templates(VENDORS), a_bound_pod()

    assert template_of(templates, pod).reach != template_of(templates, pod, frozenset()).reach


def test_what_json_cannot_hold_is_read_all_the_same() -> None:
    pod = a_bound_pod()
    pod["spec"]["extra"] = {1: object()}

    assert booking_of(pod, VENDORS, Templates(VENDORS)).subject.model == "m"


@pytest.mark.parametrize(
    "pod",
    [
        {"metadata": {"name": "plain"}},
        {"metadata": {"name": "plain"}, "spec": None},
        {"metadata": {"name": "plain", "labels": [], "annotations": "x", "ownerReferences": 1}, "spec": {}},
        {"metadata": {"name": "plain", "annotations": {1: "x"}, "labels": {None: 2}}, "spec": {"containers": [1]}},
        {"metadata": {"name": "plain"}, "spec": {"containers": "x"}, "status": {"containerStatuses": [1, {}]}},
    ],
)
def test_a_document_that_is_hardly_a_pod_is_read_as_without_templates(pod: dict[str, Any]) -> None:
    def read_by(parse: Callable[[], PodAsk]) -> PodAsk | str:
        try:
            return parse()
        except WireError as error:
            return str(error)

    found = [
        read_by(lambda: Templates(VENDORS).ask_of(pod, Defaults())[0]),
        read_by(lambda: parse_pod(pod, NAMES, Defaults())),
    ]

    assert found[0] == found[1]


def test_no_more_templates_are_kept_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.state.templates.MOST", 2)
    templates, pods = Templates(VENDORS), []
    for number in range(3):
        pod = a_bound_pod()
        pod["metadata"]["labels"]["app"] = f"app-{number}"
        pods.append(pod)

    first = template_of(templates, pods[0])

    assert [template_of(templates, pod).traits for pod in pods] == [first.traits] * 3
    assert template_of(templates, pods[0]) is not first
    assert MOST > 2
