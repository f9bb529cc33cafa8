"""The chart's ValidatingAdmissionPolicies for what the webhook is not asked about, on the real API server.

They warn by default; here they deny, so that the API server's answer shows what they say.
"""

from typing import Any

import pytest

from sandbox import ApiError, ControlPlane, await_until
from tests.chart.helm import render

pytestmark = pytest.mark.cluster
GROUP = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
PODS, WORK = "/api/v1/namespaces/default/pods", "/apis/{}/v1/namespaces/default/{}"


@pytest.fixture(scope="module")
def cp(control_plane: ControlPlane) -> ControlPlane:
    objects = render("admissionPolicies.strayResources=deny", "admissionPolicies.visibleDevices=deny")
    names = {"kerf-stray-resources", "kerf-visible-devices"}
    wanted = [each for each in objects if each["kind"] in PLURALS and each["metadata"]["name"] in names]
    for each in wanted:
        control_plane.api.post(f"{GROUP}/{PLURALS[each['kind']]}", each)
    # The API server takes a moment to enforce a new policy; a dry run shows when it does.
    for pod in (a_pod(nothing=1), a_pod(env="all")):
        await_until(lambda pod=pod: bool(refusal(control_plane, f"{PODS}?dryRun=All", pod)), "the policies")
    return control_plane


def a_pod(env: str | None = None, **limits: int) -> dict[str, Any]:
    main: dict[str, Any] = {"name": "main", "image": "app"}
    if limits:
        main["resources"] = {"limits": {f"nvidia.com/{key.replace('_', '-')}": str(n) for key, n in limits.items()}}
    if env is not None:
        main["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": env}]
    spec = {"automountServiceAccountToken": False, "containers": [main]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}}, "spec": spec}


def within(kind: str, pod: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where a workload of a kind is created, and the workload with this pod."""
    template = {"metadata": pod["metadata"], "spec": pod["spec"]}
    job = {"template": {**template, "spec": {**pod["spec"], "restartPolicy": "Never"}}}
    selector = {"matchLabels": {"app": "p"}}
    group, spec = {
        "deployments": ("apps", {"selector": selector, "template": template}),
        "daemonsets": ("apps", {"selector": selector, "template": template}),
        "jobs": ("batch", job),
        "cronjobs": ("batch", {"schedule": "0 3 * * *", "jobTemplate": {"spec": job}}),
    }[kind]
    return WORK.format(group, kind), {"metadata": {"name": "w"}, "spec": spec}


def refusal(cp: ControlPlane, path: str, body: dict[str, Any]) -> str:
    """The API server's words; empty where it accepts the object."""
    try:
        cp.api.post(path if "?" in path else f"{path}?dryRun=All", body)
    except ApiError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["pods", "deployments", "daemonsets", "jobs", "cronjobs"])
def test_a_resource_that_nobody_serves_is_named(cp: ControlPlane, kind: str) -> None:
    pod = a_pod(gpumemory=8000)
    path, body = (PODS, pod) if kind == "pods" else within(kind, pod)

    assert "container main asks for nvidia.com/gpumemory, which Kerf does not serve" in refusal(cp, path, body)


def test_what_the_webhook_is_asked_about_is_left_to_it(cp: ControlPlane) -> None:
    assert refusal(cp, PODS, a_pod(gpu=1, gpumemory=8000)) == ""
    assert "gpumemory" in refusal(cp, *within("deployments", a_pod(gpu=1, gpumemory=8000))), (
        "quota is off: it is not asked"
    )


@pytest.mark.parametrize("limits", [{}, {"gpumem": 1}, {"mig_1g.10gb": 1}])
def test_what_somebody_serves_passes(cp: ControlPlane, limits: dict[str, int]) -> None:
    assert refusal(cp, PODS, a_pod(**limits)) == ""


@pytest.mark.parametrize("env", ["all", "0", "GPU-1"])
def test_a_container_that_asks_for_no_card_and_sees_some_is_named(cp: ControlPlane, env: str) -> None:
    assert "container main sets NVIDIA_VISIBLE_DEVICES and asks for no card" in refusal(cp, PODS, a_pod(env=env))


@pytest.mark.parametrize(("env", "limits"), [("void", {}), ("none", {}), ("", {}), (None, {}), ("all", {"gpumem": 1})])
def test_a_container_that_sees_no_card_or_asks_for_some_passes(cp: ControlPlane, env: str | None, limits: Any) -> None:
    assert refusal(cp, PODS, a_pod(env=env, **limits)) == ""
