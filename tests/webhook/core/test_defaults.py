"""What is stored says what will be charged."""

from typing import Any

import pytest

from kerf.testing.builders import a_pod
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.admission import Review
from kerf.wire.resources import parse_pod
from tests.webhook.json_patch import apply
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

PLAIN = Settings(VENDORS)


def created(pod: dict[str, Any], settings: Settings = PLAIN) -> dict[str, Any]:
    """The pod as it is stored."""
    answer = mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), settings)
    assert answer.allowed, answer.message
    stored: dict[str, Any] = apply(pod, answer.patch)
    return stored


def with_resources(**parts: dict[str, Any]) -> dict[str, Any]:
    return a_pod(containers=[{"name": "main", "resources": parts}])


def resources(pod: dict[str, Any]) -> Any:
    return pod["spec"]["containers"][0]["resources"]


GPU, MEM, PERCENT, CORES = "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"


@pytest.mark.parametrize(
    ("limits", "stored"),
    [
        pytest.param({MEM: "8000"}, {GPU: "1", MEM: "8000"}, id="memory alone means one card"),
        pytest.param({PERCENT: "50"}, {GPU: "1", PERCENT: "50"}, id="a percentage alone means one card"),
        pytest.param({CORES: "30"}, {GPU: "1", CORES: "30"}, id="cores alone mean one card"),
        pytest.param({GPU: "2"}, {GPU: "2", CORES: "100"}, id="whole cards get all their cores"),
        pytest.param({GPU: 1}, {GPU: 1, CORES: "100"}, id="numbers are quantities too"),
        pytest.param({GPU: "1", PERCENT: "100"}, {GPU: "1", PERCENT: "100", CORES: "100"}, id="100 % is a whole card"),
        pytest.param({GPU: "1", CORES: "0"}, {GPU: "1", CORES: "0"}, id="cores that are given stay, zero too"),
        pytest.param({GPU: "1", MEM: "3k"}, {GPU: "1", MEM: "3k"}, id="canonical quantities stay as they are"),
        pytest.param({GPU: "1", MEM: "0"}, {GPU: "1", MEM: "0", CORES: "100"}, id="no memory named is all of it"),
        pytest.param({GPU: "1", CORES: "150"}, {GPU: "1", CORES: "100"}, id="more cores than a card has are cut"),
        pytest.param({MEM: "8000", PERCENT: "20"}, {GPU: "1", MEM: "8000"}, id="memory wins over a percentage"),
        pytest.param({MEM: "8000", PERCENT: "0"}, {GPU: "1", MEM: "8000", PERCENT: "0"}, id="0 % is no contradiction"),
    ],
)
def test_limits_and_requests_are_completed_alike(limits: dict[str, Any], stored: dict[str, Any]) -> None:
    pod = created(with_resources(limits=limits))

    assert {part: {k: str(v) for k, v in held.items()} for part, held in resources(pod).items()} == {
        "limits": {k: str(v) for k, v in stored.items()},
        "requests": {k: str(v) for k, v in stored.items()},
    }


def test_requests_alone_become_limits_which_kubernetes_demands() -> None:
    pod = created(with_resources(requests={GPU: "1", MEM: "8000", "cpu": "2"}))

    assert resources(pod) == {
        "limits": {GPU: "1", MEM: "8000"},
        "requests": {GPU: "1", MEM: "8000", "cpu": "2"},
    }


def test_two_notations_of_one_amount_are_left_alone() -> None:
    pod = with_resources(limits={GPU: "1", MEM: "8k", CORES: "30"}, requests={GPU: "1", MEM: "8000", CORES: "30"})

    assert resources(created(pod)) == resources(pod)


def test_the_policys_defaults_are_written_down() -> None:
    settings = Settings(VENDORS, defaults=Defaults(memory_mib=4000, cores=10, cards=2))

    stored = {GPU: "2", MEM: "4000", CORES: "10"}
    assert resources(created(with_resources(limits={PERCENT: "0"}), settings)) == {
        "limits": {**stored, PERCENT: "0"},
        "requests": {**stored, PERCENT: "0"},
    }


def test_a_policy_may_leave_cores_of_whole_cards_shared() -> None:
    settings = Settings(VENDORS, defaults=Defaults(whole_card_cores=False))

    assert resources(created(with_resources(limits={GPU: "1"}), settings))["limits"] == {GPU: "1"}


def test_init_containers_and_sidecars_are_filled_too() -> None:
    pod = a_pod(
        init=[
            {"name": "fetch", "resources": {"limits": {MEM: "100"}}},
            {"name": "proxy", "restartPolicy": "Always", "resources": {"limits": {MEM: "200"}}},
            {"name": "plain"},
        ]
    )

    stored = created(pod)["spec"]["initContainers"]
    both = lambda held: {"limits": held, "requests": held}  # noqa: E731
    assert stored == [
        {"name": "fetch", "resources": both({GPU: "1", MEM: "100"})},
        {"name": "proxy", "restartPolicy": "Always", "resources": both({GPU: "1", MEM: "200"})},
        {"name": "plain"},
    ]


def test_what_is_stored_is_read_by_the_scheduler_as_what_was_sent() -> None:
    pod = with_resources(requests={PERCENT: "25"})

    before, after = (parse_pod(each, NAMES, Defaults()).containers for each in (pod, created(pod)))
    assert after == before


PRIORITY = {"name": "CUDA_TASK_PRIORITY", "value": "0"}


@pytest.mark.parametrize(
    ("env", "stored"),
    [
        pytest.param(None, [PRIORITY], id="no environment"),
        pytest.param([], [PRIORITY], id="an empty environment"),
        pytest.param([{"name": "A", "value": "1"}], [{"name": "A", "value": "1"}, PRIORITY], id="another variable"),
        pytest.param([PRIORITY], [PRIORITY], id="already there"),
        pytest.param([{"name": "CUDA_TASK_PRIORITY", "value": "1"}], [PRIORITY], id="the resource has the last word"),
        pytest.param(
            [{"name": "CUDA_TASK_PRIORITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            [PRIORITY],
            id="a reference",
        ),
    ],
)
def test_the_task_priority_becomes_an_environment_variable(env: Any, stored: Any) -> None:
    pod = with_resources(limits={GPU: "1", MEM: "1000", "nvidia.com/priority": "0"})
    if env is not None:
        pod["spec"]["containers"][0]["env"] = env

    assert created(pod)["spec"]["containers"][0]["env"] == stored


def test_without_a_priority_the_environment_is_the_users() -> None:
    assert "env" not in created(a_pod())["spec"]["containers"][0]


def test_a_priority_without_cards_asks_for_nothing() -> None:
    pod = with_resources(limits={"nvidia.com/priority": "0"})

    assert created(pod) == pod


def test_zero_cards_ask_for_nothing() -> None:
    pod = with_resources(limits={GPU: "0"})

    assert created(pod) == pod
