"""The composition root: read settings, build the objects, wire them, run. No logic."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deviceplugin.gate.pods import BoundPods
from deviceplugin.gate.start import Rules, StartGate
from deviceplugin.inventory.publisher import Publisher
from deviceplugin.inventory.reader import CardReader
from deviceplugin.kubelet.fallback import Fallback
from deviceplugin.kubelet.offer import Offer
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.registrar import Registrar
from deviceplugin.kubelet.servicer import Servicer, Turns
from deviceplugin.kubelet.starter import Starter
from deviceplugin.metrics import PluginMetrics
from deviceplugin.monitor.http import serve_http
from deviceplugin.monitor.watch import Limits, Monitor
from deviceplugin.state.allocations import Allocations
from deviceplugin.state.files import Files
from deviceplugin.state.ledgers import Ledgers
from deviceplugin.state.node import LocalNode
from deviceplugin.state.node_specs import NodeSpecs
from kerf.config.load import PolicyFile, load_settings, required_setting, setting
from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError
from kerf.kube.events import Events
from kerf.obs.log import start_logging
from kerf.obs.metrics import Metrics
from kerf.probes.base import Probe
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from kerf.wire.limiter import POLICIES
from kerf.wire.top import render_top

_LOG = logging.getLogger("kerf.deviceplugin")
WITHDRAW_S = 10.0
"""How long a silent API server may delay the end."""
SWITCH_SECONDS = 0.0005
"""A loop may keep the interpreter for this long while a container waits to start (Python's default is 5 ms)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the device plugin runs."""

    node_name: str = required_setting("the node's name in Kubernetes")
    probe: str = setting("nvml", "where cards come from: nvml, or simulated:FILE (a fleet file)")
    kubeconfig: str | None = setting(None, "kubeconfig file; without it, the pod's service account")
    pod_resources_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock", "the kubelet's PodResources socket"
    )
    device_plugin_dir: str = setting("/var/lib/kubelet/device-plugins", "where the kubelet's plugin sockets stand")
    cdi_dir: str = setting("/var/run/cdi", "where this plugin's CDI specs are written")
    cdi_specs_from: tuple[str, ...] = setting(
        ("/etc/cdi", "/var/run/cdi"), "where the node's own CDI specs for whole cards stand"
    )
    state_dir: str = setting("/var/run/kerf", "ledgers and records, as a path on the host; need not survive a reboot")
    resource: str = setting("nvidia.com/gpu", "the extended resource that the kubelet counts")
    slots: int = setting(10, "slices one card may hold at once, where the probe does not say")
    limiter: str | None = setting(
        None, "libkerf.so on the host; without it, ledgers are written but nothing is limited"
    )
    limiter_policy: str = setting("cap", "cap (never above the share), weight (idle time is shared) or priority")
    allow_disable: bool = setting(False, "let a container opt out of the limiter with CUDA_DISABLE_CONTROL=true")
    fallback_env: bool = setting(False, "for runtimes without CDI: answer in Allocate, refusing what is ambiguous")
    config: str | None = setting(None, "SchedulingPolicy file, for over-commitment and defaults; read again on change")
    leave_seconds: float = setting(1.5, "how long to serve pods on their way here after the cards were withdrawn")
    metrics_bind: str | None = setting(None, "HOST:PORT for /metrics, /healthz, /readyz and /top")
    overuse_tolerance_mib: int = setting(512, "MiB beyond a slice that the driver may take before it is an overuse")
    overuse_report_after: float = setting(5.0, "seconds an overuse must last to become an event")
    overuse_evict_after: float = setting(0.0, "seconds an overuse must last for its pod to be evicted; 0 is never")
    log_level: str = setting("info", "debug, info, warning or error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = load_settings(Settings, argv, program="python -m deviceplugin", about="Kerf's device plugin")
    start_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    os.umask(0o022)
    sys.setswitchinterval(SWITCH_SECONDS)
    crashed = threading.Event()

    def crash(died: threading.ExceptHookArgs) -> None:
        # Half a plugin must not go on: without its health loop it would call sick cards well.
        _LOG.critical("a thread died", exc_info=died.exc_value)
        crashed.set()
        stop.set()

    threading.excepthook = crash
    try:
        serve(settings, connect(settings.kubeconfig, timeout_s=5.0), stop)
    except (WireError, KubeError, OSError, ValueError) as error:
        _LOG.error("%s", error)
        return 1
    return int(crashed.is_set())


def serve(settings: Settings, kube: Kube, stop: threading.Event) -> None:
    """Run the device plugin until `stop`. Raises WireError where the settings or the policy cannot be used."""
    rules = _rules(settings)
    registry = Metrics()
    metrics = PluginMetrics.build(registry)
    events = Events(kube, "kerf-deviceplugin")
    node = LocalNode(settings.node_name)
    resources = PodResources(settings.pod_resources_socket, settings.device_plugin_dir, settings.resource)
    specs = NodeSpecs(settings.cdi_specs_from, VENDORS)
    files = Files(settings.state_dir, settings.cdi_dir, settings.limiter, specs)
    pods = BoundPods(kube, node, VENDORS)
    gate = StartGate(pods, files, node, rules)
    probe = _probe(settings)
    reader = CardReader(probe, VENDORS, node, metrics, _about_node(events, settings.node_name))
    reader.run_once()
    offer = Offer(node, resources)
    if settings.fallback_env:
        fallback = Fallback(gate, Allocations(files), resources)
        servicer = Servicer(offer, fallback.allocate, fallback.start, metrics)
    else:
        starter = Starter(gate, resources, lambda pod, no: _about_pod(events, pod, no.message, no.why.value))
        servicer = Servicer(offer, Turns().allocate, starter.start, metrics)
    monitor = Monitor(kube, pods, node, Ledgers(files), _limits(settings))
    registry.registry.register(monitor)
    watched = servicer.watched
    publisher = Publisher(kube, node, VENDORS, lambda _: watched(), metrics)
    pages = {"/top": lambda: render_top(monitor.top())}
    http = serve_http(settings.metrics_bind, registry, watched, pages) if settings.metrics_bind else None
    _start("reader", partial(reader.run, stop))
    _start("clean", partial(gate.run_clean_up, stop))
    over = partial(_about_pod, events, reason="Overuse")
    _start("monitor", partial(monitor.run, probe, over, stop))
    publishing = _start("publisher", partial(publisher.run, stop))
    done = threading.Event()
    _start("leave", partial(_leave, stop, publishing, settings.leave_seconds, done))
    Registrar(settings.device_plugin_dir, settings.resource, servicer, metrics).run(done)
    if http:
        http.shutdown()
    events.close()
    resources.close()


def _start(name: str, loop: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


def _leave(stop: threading.Event, publishing: threading.Thread, seconds: float, done: threading.Event) -> None:
    """Once told to stop, go on serving until the cards are withdrawn and those on their way here have arrived."""
    stop.wait()
    publishing.join(WITHDRAW_S)
    done.wait(seconds)
    done.set()


def _rules(settings: Settings) -> Rules:
    policy_file = PolicyFile(settings.config)
    policy_file.start(lambda _: None, _LOG.error)
    limiter = next((known for known in POLICIES if known == settings.limiter_policy), None)
    if limiter is None:
        raise WireError("--limiter-policy", settings.limiter_policy, f"use one of {', '.join(POLICIES)}")
    return Rules(VENDORS, lambda: policy_file.policy, limiter, settings.allow_disable)


def _limits(settings: Settings) -> Limits:
    return Limits(settings.overuse_tolerance_mib, settings.overuse_report_after, settings.overuse_evict_after)


def _probe(settings: Settings) -> Probe:
    kind, _, path = settings.probe.partition(":")
    if kind == "simulated" and path:
        from kerf.probes.simulated import SimulatedProbe

        return SimulatedProbe(path, settings.node_name, settings.slots)
    if settings.probe == "nvml":
        from kerf.probes.nvml import NvmlProbe

        return NvmlProbe(VENDORS[0].effect_of, settings.slots)
    raise WireError("--probe", settings.probe, "use nvml or simulated:FILE")


def _about_pod(events: Events, pod: dict[str, Any], message: str, reason: str) -> None:
    meta = pod["metadata"]
    about = {"kind": "Pod", "namespace": meta.get("namespace"), "name": meta.get("name"), "uid": meta.get("uid")}
    events.emit(about, reason, message)


def _about_node(events: Events, node: str) -> Callable[[str], None]:
    about = {"kind": "Node", "name": node, "uid": node}
    return lambda sentence: events.emit(about, "CardHealth", sentence)
