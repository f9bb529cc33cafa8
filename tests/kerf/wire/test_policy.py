"""`kind: SchedulingPolicy`: every key, every default, every mistake."""

from typing import Any

import pytest

from kerf.values.policy import (
    AdmissionSettings,
    Defaults,
    MpsDaemon,
    Offer,
    PlannerSettings,
    Pool,
    PoolMode,
    QuotaEngine,
    QuotaSettings,
    ReclaimSettings,
    SchedulingPolicy,
)
from kerf.values.recovery import AfterDeadline
from kerf.wire.errors import WireError
from kerf.wire.policy import parse_card_policies, parse_policy


def policy(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "metadata": {"name": "x"}, "spec": spec}


def test_an_empty_policy_is_the_shipped_default() -> None:
    assert parse_policy(policy()) == SchedulingPolicy()


def test_what_the_webhook_lets_in_is_read() -> None:
    found = parse_policy(policy(admission={"privileged": "allow", "otherResources": ["nvidia.com/vgpu-*"]})).admission

    assert found == AdmissionSettings(privileged=True, other_resources=("nvidia.com/vgpu-*",))


def test_a_bare_off_which_yaml_reads_as_false_means_off() -> None:
    assert parse_policy(policy(quota={"engine": False})).quota.engine is QuotaEngine.OFF


def test_every_key_is_read() -> None:
    document = policy(
        offer="all",
        express=True,
        nodes="spread",
        cards=["mutex", "topology-aware", "spread"],
        weights={"slot": 1, "core": 2, "memory": 0},
        defaults={"memoryMiB": 4000, "cores": 10, "cards": 2, "wholeCardCores": False},
        pools=[
            {"name": "l4", "nodeSelector": {"b": "2", "a": "1"}, "memoryOvercommit": 1.5, "coresOvercommit": 2},
            {"name": "rest", "mode": "auto", "mpsDaemon": "node"},
        ],
        planner={
            "enabled": False,
            "contendedPercent": 50,
            "maxPods": 10,
            "deterministicLimit": 0.5,
            "gangTimeoutSeconds": 30,
        },
        quota={
            "engine": "kueue",
            "reservePercent": 3,
            "shrinkAfterSeconds": 5,
            "cohort": "gpus",
            "queue": "default",
            "fitCheck": False,
            "reclaim": {"mode": "wait", "deadlineSeconds": 60, "afterDeadline": "wait"},
        },
    )

    assert parse_policy(document) == SchedulingPolicy(
        offer=Offer.ALL,
        express=True,
        nodes="spread",
        cards=("mutex", "topology", "spread"),
        weights=(1, 2, 0),
        defaults=Defaults(memory_mib=4000, cores=10, cards=2, whole_card_cores=False),
        pools=(
            Pool("l4", (("a", "1"), ("b", "2")), 1.5, 2.0),
            Pool("rest", mode=PoolMode.AUTO, mps_daemon=MpsDaemon.NODE),
        ),
        planner=PlannerSettings(enabled=False, max_pods=10, deterministic_limit=0.5, gang_timeout_s=30.0),
        quota=QuotaSettings(
            QuotaEngine.KUEUE,
            3,
            5.0,
            "gpus",
            "default",
            fit_check=False,
            reclaim=ReclaimSettings(False, 60.0, AfterDeadline.WAIT),
        ),
    )


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "policy"),
        ({"kind": "SchedulingPolicy"}, "apiVersion, kind"),
        (policy() | {"status": {}}, "policy.status"),
        (policy(node="spread"), "spec.node"),
        (policy(nodes="best"), "spec.nodes"),
        (policy(express="yes"), "spec.express"),
        (policy(offer="some"), "spec.offer"),
        (policy(cards=[]), "spec.cards"),
        (policy(admission={"privileged": True}), "spec.admission.privileged"),
        (policy(admission={"otherResources": "nvidia.com/x"}), "spec.admission.otherResources"),
        (policy(admission={"otherResources": ["vgpu"]}), "spec.admission.otherResources[0]"),
        (policy(admission={"allow": []}), "spec.admission.allow"),
        (policy(cards=["binpack", "binpack"]), "spec.cards"),
        (policy(cards=[["binpack"]]), "spec.cards"),
        (policy(weights={"slot": 1, "core": 1}), "spec.weights.memory"),
        (policy(weights={"slot": 0, "core": 0, "memory": 0}), "spec.weights"),
        (policy(weights={"slot": 1, "core": 1, "memory": 1001}), "spec.weights.memory"),
        (policy(defaults=[]), None),
        (policy(defaults={"memoryMiB": True}), "spec.defaults.memoryMiB"),
        (policy(defaults={"cards": 0}), "spec.defaults.cards"),
        (policy(defaults={"wholeCardCores": "no"}), "spec.defaults.wholeCardCores"),
        (policy(pools={}), None),
        (policy(pools=[{}]), "spec.pools[0].name"),
        (policy(pools=[{"name": "a", "mode": "vgpu"}]), "spec.pools[0].mode"),
        (policy(pools=[{"name": "a", "mpsDaemon": "rack"}]), "spec.pools[0].mpsDaemon"),
        (policy(pools=[{"name": "a", "memoryOvercommit": 0}]), "spec.pools[0].memoryOvercommit"),
        (policy(pools=[{"name": "a", "coresOvercommit": float("nan")}]), "spec.pools[0].coresOvercommit"),
        (policy(planner={"maxPods": 0}), "spec.planner.maxPods"),
        (policy(planner={"enabled": 1}), "spec.planner.enabled"),
        (policy(quota={"engine": "hami"}), "spec.quota.engine"),
        (policy(quota={"reservePercent": 100}), "spec.quota.reservePercent"),
        (policy(quota={"cohort": ""}), "spec.quota.cohort"),
    ],
)
def test_a_mistake_is_refused_by_its_field(document: object, field: str | None) -> None:
    if field is None:  # an empty list stands for an empty object, as it does in YAML written in haste
        assert parse_policy(document) == SchedulingPolicy()
        return
    with pytest.raises(WireError) as caught:
        parse_policy(document)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("value", "chain"),
    [
        ("binpack", ("binpack",)),
        ("mutex, binpack ,numa", ("mutex", "binpack", "numa")),
        (["topology-aware"], ("topology",)),
        (("spread", "topology"), ("spread", "topology")),
    ],
)
def test_a_chain_is_a_text_or_a_list(value: object, chain: tuple[str, ...]) -> None:
    assert parse_card_policies(value, "x") == chain


@pytest.mark.parametrize("version", ["kerf.dev/v1", "kerf.dev/v1alpha0", "kerf.dev/v2beta1", None])
def test_a_policy_of_an_older_or_newer_version_is_refused_and_never_the_default(version: str | None) -> None:
    with pytest.raises(WireError, match=r"this version of Kerf reads apiVersion: kerf.dev/v1alpha1"):
        parse_policy({"apiVersion": version, "kind": "SchedulingPolicy", "spec": {"quota": {"engine": "kueue"}}})


@pytest.mark.parametrize("part", ["quota", "planner", "defaults"])
@pytest.mark.parametrize("written", [False, 0, "", "off"])
def test_a_part_that_is_no_object_is_not_the_default(part: str, written: object) -> None:
    with pytest.raises(WireError, match=rf"spec.{part}: .*write an object"):
        parse_policy({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {part: written}})


def test_a_policy_that_says_when_the_planner_runs_is_still_read() -> None:
    spec = {"planner": {"contendedPercent": 50}}

    assert parse_policy({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec}) == (
        SchedulingPolicy()
    )


@pytest.mark.parametrize("written", [False, "wait", "off"])
def test_a_word_in_place_of_the_reclaim_block_is_refused_with_what_to_write(written: object) -> None:
    spec = {"quota": {"reclaim": written}}

    with pytest.raises(WireError, match=r"spec.quota.reclaim: .*write an object: {mode: wait} or {mode: evict}"):
        parse_policy({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": spec})
