"""Privileged containers, and resources that nobody serves."""

from typing import Any

import pytest

from kerf.testing.builders import a_container, a_pod
from kerf.values.policy import AdmissionSettings
from kerf.values.served import similar, unserved
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.admission import Answer, Review
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

PRIVILEGED = {"securityContext": {"privileged": True}}
OTHER = "Kerf does not serve this resource; name it in the policy, spec.admission.otherResources"
LIMITS = "spec.containers[main].resources.limits"


def answered(*containers: dict[str, Any], kind: str = "Pod", **admission: Any) -> Answer:
    pod = a_pod("p", containers=list(containers))
    item = pod if kind == "Pod" else {"metadata": {"name": "p"}, "spec": {"template": {"spec": pod["spec"]}}}
    group = "" if kind == "Pod" else "apps"
    review = Review("u", "CREATE", kind, "default", "user", item, {}, group=group)
    return mutate(review, Settings(VENDORS, admission=AdmissionSettings(**admission)))


def asks(**limits: Any) -> dict[str, Any]:
    return {"name": "main", "resources": {"limits": {f"nvidia.com/{key}": value for key, value in limits.items()}}}


@pytest.mark.parametrize(("kind", "prefix"), [("Pod", ""), ("Deployment", "spec.template.")])
def test_a_privileged_container_that_asks_for_cards_is_refused(kind: str, prefix: str) -> None:
    answer = answered(a_container(**PRIVILEGED), kind=kind)

    sentence = (
        f"{prefix}spec.containers[main].securityContext.privileged: 'true': a privileged container sees every card of "
        "its node: drop it, devices need no privilege, or write spec.admission.privileged: allow in the policy"
    )
    assert (answer.allowed, answer.message) == (False, sentence)


def test_the_policy_may_let_it_in() -> None:
    assert answered(a_container(**PRIVILEGED), privileged=True).allowed


def test_a_privileged_container_without_cards_is_not_concerned() -> None:
    assert answered(a_container(), {"name": "side", **PRIVILEGED}).allowed


@pytest.mark.parametrize(
    ("limits", "warnings"),
    [
        (
            {"gpu": 1, "gpumemory": 8000},
            [f"{LIMITS}[nvidia.com/gpumemory]: Kerf does not serve this resource; did you mean nvidia.com/gpumem?"],
        ),
        (
            {"gpumem": 1, "something": 1},
            [f"{LIMITS}[nvidia.com/something]: {OTHER}"],
        ),
        ({"gpu": 1, "mig-1g.10gb": 1}, []),
        ({"gpu": 1, "gpucores": 10, "gpumem": 5, "priority": 1}, []),
    ],
)
def test_a_resource_that_nobody_serves_is_a_warning(limits: dict[str, Any], warnings: list[str]) -> None:
    assert list(answered(asks(**limits)).warnings) == warnings


def test_a_resource_of_another_plugin_is_no_warning_once_it_is_named() -> None:
    assert answered(asks(gpu=1, something=1), other_resources=("nvidia.com/some*",)).warnings == ()


@pytest.mark.parametrize(
    "name", ["cpu", "example.com/nvidia", "nvidia.com/gpu", "nvidia.com/mig-7g.80gb", "nvidia.com/x"]
)
def test_only_names_of_a_vendors_domain_are_judged(name: str) -> None:
    assert unserved(name, NAMES) == (name == "nvidia.com/x")


def test_the_most_similar_name_is_suggested_and_nothing_where_none_is() -> None:
    known = NAMES[0].all
    assert [similar(name, known) for name in ("nvidia.com/gpu-mem", "nvidia.com/gpus", "amd.com/zebra")] == [
        "nvidia.com/gpumem", "nvidia.com/gpu", "",
    ]  # fmt: skip
