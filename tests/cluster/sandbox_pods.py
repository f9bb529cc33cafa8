"""Pods that print what they got, and waiting for them."""

from typing import Any

from sandbox import SLEEPER, ControlPlane, Node, Report, await_until, parse_report

PODS = "/api/v1/namespaces/default/pods"


def a_sleeper(name: str, *args: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container, ``main``, of the sleeper image; `spec` is merged into its spec."""
    main = {"name": "main", "image": SLEEPER, "imagePullPolicy": "Never", "args": list(args)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [main], **spec},
    }


def await_running(cp: ControlPlane, name: str) -> dict[str, Any]:
    """The pod, once it runs. The error lists its events."""
    try:
        await_until(lambda: cp.api.get(f"{PODS}/{name}")["status"].get("phase") == "Running", f"{name} to run")
    except Exception as error:
        events = cp.api.get("/api/v1/namespaces/default/events")["items"]
        raise AssertionError([each["message"] for each in events if each["involvedObject"]["name"] == name]) from error
    return cp.api.get(f"{PODS}/{name}")


def await_report(node: Node, pod: str, container: str = "main") -> Report:
    """A sleeper's output, once it is complete."""
    await_until(lambda: parse_report(node.output("default", pod, container)).complete, f"the report of {pod}")
    return parse_report(node.output("default", pod, container))
