"""Kerf's own daemons as processes of a sandbox, as the chart installs them, with simulated cards."""

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from sandbox.commands import answers
from sandbox.controlplane import ControlPlane
from sandbox.documents import MAKERS, TENANTS, Webhook
from sandbox.layout import free_ports
from sandbox.node import Node
from sandbox.processes import Command, await_until
from sandbox.scheduling import Extender

PODS = "/api/v1/namespaces/default/pods"
EXTENDER, WEBHOOK, PLUGIN = "kerf-scheduler", "kerf-webhook", "kerf-deviceplugin"


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of Kerf's daemons. Their processes are kerf-scheduler, kerf-webhook and kerf-deviceplugin."""

    extender_url: str
    webhook_url: str


def start_stack(cp: ControlPlane, *, policy: Path | None = None, scheduler_arguments: tuple[str, ...] = ()) -> Stack:
    """Start webhook and extender, register them, start kube-scheduler with the extender."""
    extender_port, webhook_port = free_ports(2)
    config = ("--config", str(policy)) if policy else ()
    extender_url = f"http://127.0.0.1:{extender_port}"
    start_extender(cp, extender_port, (*config, *scheduler_arguments))
    cert, key = cp.authority.issue("kerf-webhook", hosts=("127.0.0.1",)).write(cp.layout.pki, "kerf-webhook")
    trust = ssl.create_default_context(cafile=cp.ca)
    webhook_url = f"https://127.0.0.1:{webhook_port}"
    cp.supervisor.start(
        Command(
            WEBHOOK,
            _python(
                "webhook",
                *("--bind", f"127.0.0.1:{webhook_port}", "--tls-cert", str(cert), "--tls-key", str(key)),
                *("--kubeconfig", str(cp.kubeconfig_for(WEBHOOK))),
                *(
                    "--scheduler",
                    f"127.0.0.1:{extender_port}",
                    "--trusted-user",
                    EXTENDER,
                    "--trusted-user",
                    PLUGIN,
                    *config,
                ),
            ),
            ready=lambda: answers(f"{webhook_url}/readyz", trust),
        )
    )
    cp.register_webhook(Webhook("kerf", f"{webhook_url}/mutate", cp.ca.read_bytes(), more=(*MAKERS, *TENANTS)))
    cp.start_scheduler(Extender(extender_url))
    await_until(lambda: _webhook_is_asked(cp), "the API server to ask the webhook")
    return Stack(extender_url, webhook_url)


def _webhook_is_asked(cp: ControlPlane) -> bool:
    """The API server learns of a webhook a moment after it was stored; until then pods pass it by."""
    container = {"name": "main", "image": "app", "resources": {"limits": {VENDORS[0].words.count: "1"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [container]}}
    return bool(cp.api.post(f"{PODS}?dryRun=All", pod)["spec"]["schedulerName"] != "default-scheduler")


def stop_stack(cp: ControlPlane, *more: str) -> None:
    """Stop what `start_stack` has started, and other processes, and forget the webhook."""
    for name in ("kube-scheduler", EXTENDER, WEBHOOK, *more):
        cp.supervisor.stop(name)
    cp.api.delete("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kerf")


def start_extender(cp: ControlPlane, port: int, arguments: tuple[str, ...] = (), name: str = EXTENDER) -> None:
    """Start one extender and wait until it has read the cluster."""
    kubeconfig = cp.kubeconfig_for(name)
    cp.supervisor.start(
        Command(
            name,
            _python("scheduler", "--kubeconfig", str(kubeconfig), "--bind", f"127.0.0.1:{port}", *arguments),
            ready=lambda: answers(f"http://127.0.0.1:{port}/readyz"),
        )
    )


def start_plugin(
    cp: ControlPlane, node: Node, fleet: Path, arguments: tuple[str, ...] = (), name: str = PLUGIN
) -> None:
    """Start the device plugin of a real node with its simulated cards of a fleet file, whatever their vendors.

    `name` is that of its process, for sandboxes with several nodes.
    """
    vendors = _vendors_in(fleet, node.name)
    state = cp.run_dir / f"{name}-state"
    state.mkdir(exist_ok=True)
    inventory = f"/api/v1/nodes/{node.name}"

    def published() -> bool:
        found = cp.api.get(inventory)
        offered, notes = found["status"].get("allocatable", {}), found["metadata"].get("annotations", {})
        return all(int(offered.get(v.words.count, "0")) > 0 and v.inventory_key in notes for v in vendors)

    cp.supervisor.start(
        Command(
            name,
            (
                *plugin_on(node, cp.kubeconfig_for(PLUGIN), fleet, state),
                *(f"--resource={v.words.count}" for v in vendors),
                *arguments,
            ),
            ready=published,
        )
    )


def plugin_on(node: Node, kubeconfig: Path, fleet: Path, state: Path) -> tuple[str, ...]:
    """The command of a device plugin with a fleet file's cards, at the node's own sockets and directories."""
    return _python(
        "deviceplugin",
        *("--node-name", node.name, "--kubeconfig", str(kubeconfig)),
        *("--probe", f"simulated:{fleet}", "--pod-resources-socket", str(node.pod_resources_socket)),
        *("--device-plugin-dir", str(node.device_plugin_dir), "--cdi-dir", str(node.cdi_dirs[0])),
        *("--state-dir", str(state)),
    )


def _vendors_in(fleet: Path, node: str) -> tuple[Vendor, ...]:
    """The vendors of a node's cards in a fleet file; NVIDIA where nothing is said."""
    document = yaml.safe_load(fleet.read_text()) or {}
    entries = ((document.get("nodes") or {}).get(node) or document).get("cards") or [{}]
    named = {str(entry.get("vendor", VENDORS[0].name)) for entry in entries}
    return tuple(vendor for vendor in VENDORS if vendor.name in named)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
