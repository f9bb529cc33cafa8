"""Kueue's labels: what asks for a tenant's cards waits in the tenant's queue."""

import copy
from typing import Any

import pytest

from kerf.testing.builders import a_pod
from kerf.values.policy import QuotaEngine
from kerf.vendors.registry import VENDORS
from tests.webhook.json_patch import apply
from tests.webhook.tenants import a_book, answer_to, settings_of
from webhook.core.settings import Settings

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
KUEUE = settings_of([a_book(priority="high")], QuotaEngine.KUEUE)


def a_deployment(**labels: str) -> dict[str, Any]:
    spec = {"template": {"spec": a_pod()["spec"]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels}, "spec": spec}


def labels_of(item: dict[str, Any], settings: Settings = KUEUE, old: dict[str, Any] | None = None) -> dict[str, str]:
    answer = answer_to(item, settings, old)
    assert answer.allowed, answer.message
    found: dict[str, str] = apply(item, answer.patch)["metadata"].get("labels", {})
    return found


@pytest.mark.parametrize("item", [a_pod(), a_deployment()], ids=["a pod", "a deployment"])
def test_what_asks_for_cards_is_queued_with_its_tenants_priority(item: dict[str, Any]) -> None:
    assert labels_of(item) == {QUEUE: "kerf", PRIORITY: "kerf-high"}


@pytest.mark.parametrize("item", [a_pod(), a_deployment()], ids=["a pod", "a deployment"])
@pytest.mark.parametrize("settings", [Settings(VENDORS), settings_of([a_book()])], ids=["no tenant", "no Kueue"])
def test_nobody_else_is_queued(item: dict[str, Any], settings: Settings) -> None:
    assert labels_of(item, settings) == {}


def test_a_pod_without_cards_is_not_queued() -> None:
    assert labels_of(a_pod(gpu=0, mem=None, cores=None)) == {}


def test_a_users_own_queue_stays() -> None:
    assert labels_of(a_deployment(**{QUEUE: "mine"})) == {QUEUE: "mine", PRIORITY: "kerf-high"}


def test_a_pod_without_a_labels_map_gets_one() -> None:
    pod = a_pod()
    del pod["metadata"]["labels"]

    assert labels_of(pod) == {QUEUE: "kerf", PRIORITY: "kerf-high"}


def test_a_pod_that_kueue_gates_for_its_owner_is_left_to_it() -> None:
    assert labels_of(a_pod(annotations={"kueue.x-k8s.io/pod-suspending-parent": "statefulset"})) == {}


def test_a_pod_is_labelled_whatever_else_it_says_of_kueue_and_whatever_owns_it() -> None:
    pod = a_pod(labels={"kueue.x-k8s.io/managed": "false"})
    pod["metadata"]["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "controller": True}]

    made = apply(pod, answer_to(pod, KUEUE, user="system:kube-controller-manager").patch)

    assert made["metadata"]["labels"][QUEUE] == "kerf"


def test_an_update_that_drops_the_labels_gets_them_back_and_none_besides() -> None:
    old = a_deployment(**{QUEUE: "kerf", PRIORITY: "kerf-low"})
    new = a_deployment(app="web")

    assert labels_of(new, KUEUE, old) == {"app": "web", QUEUE: "kerf", PRIORITY: "kerf-low"}
    assert labels_of(new, KUEUE, a_deployment()) == {"app": "web"}
    assert labels_of(new, settings_of([a_book()]), old) == {"app": "web"}


def test_queueing_twice_changes_nothing() -> None:
    for item in (a_pod(), a_deployment()):
        stored = apply(item, answer_to(item, KUEUE).patch)

        assert answer_to(copy.deepcopy(stored), KUEUE).patch == ()
