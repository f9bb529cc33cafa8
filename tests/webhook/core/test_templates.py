"""Templates: counted before their pods are made, refused at once, and never changed behind their owner's back."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from kerf.testing.builders import a_container, a_pod
from kerf.values.policy import QuotaEngine
from kerf.values.quota import Bound
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer
from tests.webhook.json_patch import apply
from tests.webhook.tenants import (
    A100_40,
    A100_40_MIB,
    a_book,
    a_class_book,
    answer_to,
    settings_of,
)
from webhook.core.settings import Settings

ONE_KIND = settings_of([a_book()])
SMALLER = settings_of([a_book(a_class_book(mib=40_000))])
TWO_SIZES = settings_of([a_book(a_class_book(), a_class_book(A100_40, A100_40_MIB))])
BOUNDED = settings_of([a_book(a_class_book(limit=Bound(10_000)), enforced=True)])
HALF_LIMITS = {"nvidia.com/gpumem-percentage": "50"}
HALF = {"name": "main", "resources": {"limits": HALF_LIMITS}}
PRIORITY = "nvidia.com/priority"


def a_template(**changes: Any) -> dict[str, Any]:
    pod = a_pod(**changes)
    return {"metadata": {"annotations": pod["metadata"]["annotations"]}, "spec": pod["spec"]}


def a_job(template: Any) -> dict[str, Any]:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}}


def apps(kind: str, template: Any, **meta: Any) -> dict[str, Any]:
    spec = {"replicas": 1, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "d", **meta}, "spec": spec}


def a_deployment(template: Any, **meta: Any) -> dict[str, Any]:
    return apps("Deployment", template, **meta)


def a_job_set(template: Any) -> dict[str, Any]:
    jobs = [{"name": "driver", "template": {"spec": {"template": {"spec": {"containers": [{"name": "d"}]}}}}}]
    jobs.append({"name": "workers", "template": {"spec": {"template": template}}})
    version = "jobset.x-k8s.io/v1alpha2"
    return {"apiVersion": version, "kind": "JobSet", "metadata": {"name": "s"}, "spec": {"replicatedJobs": jobs}}


def a_leader_worker_set(template: Any, **parts: Any) -> dict[str, Any]:
    spec = {"leaderWorkerTemplate": {**parts, "workerTemplate": template}}
    version = "leaderworkerset.x-k8s.io/v1"
    return {"apiVersion": version, "kind": "LeaderWorkerSet", "metadata": {"name": "l"}, "spec": spec}


def at(item: Any, *path: Any) -> Any:
    for step in path:
        item = item[step]
    return item


MAKERS = [
    pytest.param(a_job, ("spec", "template"), "spec.template", id="Job"),
    pytest.param(a_deployment, ("spec", "template"), "spec.template", id="Deployment"),
    pytest.param(lambda t: apps("StatefulSet", t), ("spec", "template"), "spec.template", id="StatefulSet"),
    pytest.param(lambda t: apps("ReplicaSet", t), ("spec", "template"), "spec.template", id="ReplicaSet"),
    pytest.param(
        a_job_set,
        ("spec", "replicatedJobs", 1, "template", "spec", "template"),
        "spec.replicatedJobs[workers].template.spec.template",
        id="JobSet",
    ),
    pytest.param(
        a_leader_worker_set,
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
        "spec.leaderWorkerTemplate.workerTemplate",
        id="LeaderWorkerSet",
    ),
    pytest.param(
        lambda t: a_leader_worker_set({"spec": {}}, leaderTemplate=t),
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        "spec.leaderWorkerTemplate.leaderTemplate",
        id="its leader",
    ),
]


def stored(item: dict[str, Any], settings: Settings = ONE_KIND, old: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = answer_to(item, settings, old)
    assert answer.allowed, answer.message
    result: dict[str, Any] = apply(item, answer.patch)
    return result


def limits(item: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = item["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


@pytest.mark.parametrize(("make", "path", "field"), MAKERS)
@pytest.mark.parametrize("settings", [ONE_KIND, Settings(VENDORS)], ids=["a tenant's", "without a tenant"])
def test_a_template_is_stored_as_its_pods_will_be(make: Any, path: Any, field: str, settings: Settings) -> None:
    template = a_template(containers=[HALF, a_container("side", gpu=0, mem=None, cores=None)])
    pod = {"metadata": {"name": "p"}, "spec": copy.deepcopy(template["spec"])}

    assert at(stored(make(template), settings), *path)["spec"] == stored(pod, settings)["spec"]


@pytest.mark.parametrize(("make", "path", "field"), MAKERS)
def test_a_template_that_could_never_make_a_pod_is_refused_at_once(make: Any, path: Any, field: str) -> None:
    container = f"{field}.spec.containers[main].resources.limits"
    bytes_meant = answer_to(make(a_template(mem="3Gi")), Settings(VENDORS))
    which = answer_to(make(a_template(annotations={"nvidia.com/use-gputype": "B200"})), ONE_KIND)

    assert bytes_meant.message.startswith(f"{container}[nvidia.com/gpumem]: '3Gi': write a whole number")
    assert which.message.startswith(f"{field}.metadata.annotations[nvidia.com/use-gputype]: 'b200': tenant team-a has")


def test_a_template_beyond_what_the_tenant_may_ever_hold_is_refused() -> None:
    assert answer_to(a_job(a_template(gpu=2)), BOUNDED).message == (
        "spec.template: quota: tenant team-a may hold at most 10,000 MiB of NVIDIA H100 80GB HBM3; "
        "16,000 MiB asked for one pod: waiting will not help, ask for less or for more quota"
    )


def test_warnings_name_the_whole_path() -> None:
    (warning,) = answer_to(a_job(a_template(cores=150)), ONE_KIND).warnings

    assert warning.startswith("spec.template.spec.containers[main].resources.limits[nvidia.com/gpucores]: a card")


def test_a_template_without_cards_is_not_touched() -> None:
    plain = a_deployment(a_template(gpu=0, mem=None, cores=None))

    assert answer_to(plain, settings_of([a_book()], QuotaEngine.KUEUE)) == Answer(allowed=True)


def test_a_template_that_opted_out_is_left_alone_outside_tenants() -> None:
    template = a_template(mem="3Gi", spec={"schedulerName": "kerf-scheduler"})
    template["metadata"]["labels"] = {"kerf.dev/webhook": "ignore"}

    assert answer_to(a_deployment(template), Settings(VENDORS)) == Answer(allowed=True)
    assert answer_to(a_deployment(template), ONE_KIND).allowed is False


def test_what_another_template_made_is_left_as_it_was_made() -> None:
    owner = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": True}]
    made = apps("ReplicaSet", a_template(containers=[HALF]), ownerReferences=owner)

    settings = settings_of([a_book()], QuotaEngine.KUEUE)
    assert answer_to(made, settings, user="system:serviceaccount:kube-system:deployment-controller") == Answer(True)


@pytest.mark.parametrize("engine", [QuotaEngine.KERF, QuotaEngine.KUEUE])
def test_an_owner_that_a_user_writes_leads_past_nothing(engine: QuotaEngine) -> None:
    """Past the totals with both engines; and Kueue counts nothing of what a queued owner controls."""
    owner = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": True}]
    made = apps("ReplicaSet", a_template(containers=[HALF]), ownerReferences=owner)
    settings = settings_of([a_book()], engine)

    answer = answer_to(made, settings, user="system:serviceaccount:team-a:deployment-controller")

    if engine is QuotaEngine.KERF:
        assert limits(stored(made, settings))["quota.kerf.dev/nvidia-mib"] == "40779"
    else:
        assert answer.message == (
            "metadata.ownerReferences: 'Deployment d': only a controller writes it, since Kueue counts its owner "
            "instead; system:serviceaccount:team-a:deployment-controller is not known as one: drop it, or start the "
            "webhook with --controller-user"
        )


def test_an_owner_that_an_update_adds_is_refused_and_one_that_was_there_is_not() -> None:
    settings = settings_of([a_book()], QuotaEngine.KUEUE)
    old = stored(a_deployment(a_template()), settings)
    owned = copy.deepcopy(old)
    owned["metadata"]["ownerReferences"] = [{"apiVersion": "x/v1", "kind": "Boss", "name": "b", "controller": True}]

    assert answer_to(owned, settings, old).allowed is False
    assert answer_to(owned, settings, owned).allowed
    assert answer_to(owned, replace(settings, controllers=("jo*",)), old).allowed


def test_a_job_of_a_cron_job_is_normalised_like_any_other() -> None:
    job = a_job(a_template(containers=[HALF]))
    job["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "controller": True}
    ]

    assert limits(stored(job))["quota.kerf.dev/nvidia-mib"] == "40779"


def test_another_group_s_job_is_not_ours() -> None:
    job = {**a_job(a_template(mem="3Gi")), "apiVersion": "batch.volcano.sh/v1alpha1"}

    assert answer_to(job, ONE_KIND) == Answer(allowed=True)


# ---- updates: only the user's changes lead to a rollout


@pytest.mark.parametrize(
    "settings", [ONE_KIND, SMALLER, Settings(VENDORS)], ids=["the same", "smaller cards", "no tenant"]
)
def test_scaling_changes_no_template_whatever_the_cards_are_now(settings: Settings) -> None:
    old = stored(a_deployment(a_template(containers=[HALF])))
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 5

    assert answer_to(new, settings, old) == Answer(allowed=True)


def test_what_was_there_before_the_tenant_is_not_rolled_out_for_it() -> None:
    old = a_deployment(a_template(containers=[HALF]))
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "newer"

    assert answer_to(new, ONE_KIND, old) == Answer(allowed=True)


def test_an_old_template_that_cannot_be_read_stops_no_unrelated_update() -> None:
    old = a_deployment(a_template(mem="3Gi"))
    new = copy.deepcopy(old)
    new["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}

    assert answer_to(new, ONE_KIND, old) == Answer(allowed=True)


@pytest.mark.parametrize("settings", [ONE_KIND, SMALLER], ids=["the same cards", "smaller cards"])
def test_replacing_it_by_the_file_it_came_from_rolls_nothing_out(settings: Settings) -> None:
    limits_ = {"nvidia.com/gpumem-percentage": "50", "nvidia.com/priority": "0"}
    template = a_template(containers=[{"name": "main", "resources": {"limits": limits_}}])
    file = a_deployment(template)
    with_runtime = settings_of([a_book()], runtime_classes={"nvidia": "kerf"})
    old = stored(file, with_runtime)
    settings = settings_of(settings.tenants.values(), runtime_classes={"nvidia": "kerf"})

    assert stored(file, settings, old)["spec"] == old["spec"]


def test_a_template_that_changes_its_vendor_changes_the_runtime_class_that_kerf_wrote() -> None:
    settings = Settings(VENDORS, runtime_classes={"nvidia": "nvidia", "ascend910b3": "ascend"})
    npu = {"name": "main", "resources": {"limits": {"huawei.com/Ascend910B3": "1"}}}
    old = stored(a_deployment(a_template(containers=[HALF])), settings)
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"] = [npu]

    changed, by_hand = stored(new, settings, old), copy.deepcopy(old)
    by_hand["spec"]["template"]["spec"]["runtimeClassName"] = "mine"

    assert old["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
    assert changed["spec"]["template"]["spec"]["runtimeClassName"] == "ascend"
    assert stored(by_hand, settings, old)["spec"]["template"]["spec"]["runtimeClassName"] == "mine"


def test_a_container_without_cards_may_come_and_brings_no_totals() -> None:
    old = stored(a_deployment(a_template(containers=[HALF])))
    new = copy.deepcopy(old)
    side = {"name": "side", "resources": {"limits": {"cpu": "1", "quota.kerf.dev/nvidia-mib": "1"}}}
    new["spec"]["template"]["spec"]["containers"].insert(0, side)

    kept = stored(new, SMALLER, old)["spec"]["template"]["spec"]["containers"]

    assert kept[0]["resources"] == {"limits": {"cpu": "1"}}
    assert kept[1:] == old["spec"]["template"]["spec"]["containers"]


def test_totals_changed_by_hand_are_changed_back() -> None:
    old = stored(a_deployment(a_template()))
    new = copy.deepcopy(old)
    limits(new)["quota.kerf.dev/nvidia-mib"] = "1"

    assert stored(new, ONE_KIND, old) == old


def test_another_ask_is_counted_again() -> None:
    old = stored(a_deployment(a_template(mem=8000)))
    new = copy.deepcopy(old)
    for part in ("limits", "requests"):
        new["spec"]["template"]["spec"]["containers"][0]["resources"][part]["nvidia.com/gpumem"] = "9k"

    assert limits(stored(new, ONE_KIND, old))["quota.kerf.dev/nvidia-mib"] == "9000"


def test_another_selection_is_counted_again() -> None:
    old = stored(a_deployment(a_template(gpu=1, mem=None, annotations={"nvidia.com/use-gputype": "H100"})), TWO_SIZES)
    new = copy.deepcopy(old)
    new["spec"]["template"]["metadata"]["annotations"] = {"nvidia.com/use-gputype": "A100"}

    assert limits(stored(new, TWO_SIZES, old))["quota.kerf.dev/nvidia-mib"] == str(A100_40_MIB)


def test_a_changed_ask_that_is_impossible_is_refused() -> None:
    old = stored(a_deployment(a_template()))
    new = a_deployment(a_template(mem="3Gi"))

    assert answer_to(new, ONE_KIND, old).message.startswith("spec.template.spec.containers[main].resources.limits[nvi")


def test_a_template_that_asks_for_cards_no_longer_keeps_no_totals() -> None:
    old = stored(a_deployment(a_template()))
    new = copy.deepcopy(old)
    for part in ("limits", "requests"):
        amounts = new["spec"]["template"]["spec"]["containers"][0]["resources"][part]
        for name in [name for name in amounts if name.startswith("nvidia.com/")]:
            del amounts[name]

    assert limits(stored(new, ONE_KIND, old)) == {}


def test_the_resources_of_a_suspended_job_are_counted_again_when_they_change() -> None:
    """Kubernetes lets them change since 1.36."""
    old = stored(a_job(a_template(mem=8000)))
    new = copy.deepcopy(old)
    for part in ("limits", "requests"):
        new["spec"]["template"]["spec"]["containers"][0]["resources"][part]["nvidia.com/gpumem"] = "16k"

    assert limits(stored(new, ONE_KIND, old))["quota.kerf.dev/nvidia-mib"] == "16000"
    new["spec"]["parallelism"], old["spec"]["parallelism"] = 2, 1
    assert answer_to(old, ONE_KIND, {**old, "spec": {**old["spec"], "parallelism": 3}}) == Answer(allowed=True)


@pytest.mark.parametrize("word", ["1", "0"])
def test_an_update_of_the_task_priority_alone_is_not_undone(word: str) -> None:
    other = {"1": "0", "0": "1"}[word]
    old = stored(
        a_deployment(a_template(containers=[{**HALF, "resources": {"limits": {**HALF_LIMITS, PRIORITY: word}}}]))
    )
    new = a_deployment(a_template(containers=[{**HALF, "resources": {"limits": {**HALF_LIMITS, PRIORITY: other}}}]))

    made = stored(new, ONE_KIND, old)

    assert limits(made)[PRIORITY] == other
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "CUDA_TASK_PRIORITY", "value": other}]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize("settings", [ONE_KIND, Settings(VENDORS)], ids=["a tenant's", "without a tenant"])
@pytest.mark.parametrize("part", ["limits", "requests"])
def test_what_apply_changes_in_one_map_holds_for_both(kind: str, settings: Settings, part: str) -> None:
    """`kubectl apply` sends what changed in the file, and the other map is Kerf's."""
    words = {"nvidia.com/gpumem": "8000", PRIORITY: "1"}
    old = stored(apps(kind, a_template(containers=[{"name": "main", "resources": {"limits": words}}])), settings)
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"][0]["resources"][part] |= {"nvidia.com/gpumem": "9k", PRIORITY: "0"}

    (made,) = stored(new, settings, old)["spec"]["template"]["spec"]["containers"]

    words = {"nvidia.com/gpumem": "9k", PRIORITY: "0", "nvidia.com/gpu": "1"}
    assert made["resources"]["limits"].items() >= words.items()
    assert made["resources"]["requests"].items() >= words.items()
    assert made["env"] == [{"name": "CUDA_TASK_PRIORITY", "value": "0"}]
    assert limits(stored(new, ONE_KIND, old))["quota.kerf.dev/nvidia-mib"] == "9000"


def test_what_apply_removes_from_the_limits_is_asked_no_longer() -> None:
    words = {"nvidia.com/gpu": "2", "nvidia.com/gpumem": "8000", PRIORITY: "1"}
    old = stored(a_deployment(a_template(containers=[{"name": "main", "resources": {"limits": words}}])))
    new = copy.deepcopy(old)
    del limits(new)[PRIORITY], limits(new)["nvidia.com/gpumem"]

    (made,) = stored(new, ONE_KIND, old)["spec"]["template"]["spec"]["containers"]

    assert {name for name in made["resources"]["requests"] if name.startswith("nvidia.com")} == {
        "nvidia.com/gpu",
        "nvidia.com/gpucores",
    }
    assert made["resources"]["limits"]["quota.kerf.dev/nvidia-mib"] == str(2 * 81_559)
    assert made["env"] == []


def test_limits_that_ask_for_no_card_beside_requests_that_do_are_named() -> None:
    old = stored(a_deployment(a_template(mem=8000)))
    new = copy.deepcopy(old)
    for name in [name for name in limits(new) if name.startswith("nvidia.com/")]:
        del limits(new)[name]

    answer = answer_to(new, ONE_KIND, old)

    words = "no card is asked there any more, but the requests still ask: remove them too"
    assert answer.warnings == (f"spec.template.spec.containers[main].resources.limits: {words}",)
    assert apply(new, answer.patch)["spec"] == old["spec"]


def test_a_task_priority_that_comes_from_elsewhere_is_never_the_word_none() -> None:
    source = {"name": "CUDA_TASK_PRIORITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    old = stored(a_deployment(a_template(containers=[{**HALF, "env": [source]}])))
    new = a_deployment(a_template(containers=[{**HALF, "env": [source]}]))

    assert stored(new, ONE_KIND, old)["spec"]["template"]["spec"]["containers"][0]["env"] == [source]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"kind": "DaemonSet", "spec": {"template": "?"}}, "spec.template"),
        (
            {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": "?"}}}},
            "spec.jobTemplate.spec.template",
        ),
    ],
)
def test_templates_of_daemon_sets_and_cron_jobs_are_refused_when_they_are_applied(item: Any, field: str) -> None:
    group = {"DaemonSet": "apps/v1", "CronJob": "batch/v1"}[item["kind"]]
    made = json.loads(json.dumps(item).replace('"?"', json.dumps(a_template(mem="3Gi"))))

    answer = answer_to({"apiVersion": group, "metadata": {"name": "x"}, **made}, Settings(VENDORS))

    assert answer.message.startswith(f"{field}.spec.containers[main].resources.limits[nvidia.com/gpumem]: '3Gi'")


@pytest.mark.parametrize("strange", [None, 1, "x", [], {}, {"spec": None}, {"spec": {"containers": 1}}], ids=repr)
def test_no_template_is_strange_enough_to_raise(strange: Any) -> None:
    for make in (a_job, a_deployment, a_job_set, a_leader_worker_set):
        for old in (None, make(strange), make(a_template())):
            answer_to(make(strange), ONE_KIND, old)
    for item in ({"apiVersion": "apps/v1", "kind": "Deployment", "spec": strange}, a_job_set(strange)):
        answer_to(item, ONE_KIND, item)
