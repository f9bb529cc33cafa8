"""The composition root: read settings, build the objects, wire them, run. No logic."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deviceplugin.core.refusal import StartRefusal
from deviceplugin.core.resources import parse_resources
from deviceplugin.core.slots import Resource
from deviceplugin.dra.hands import HandRules, Hands
from deviceplugin.dra.room import Directories, DraRoom
from deviceplugin.gate.hardware import Wanted, hardware_of, probes_of
from deviceplugin.gate.instances import Instances
from deviceplugin.gate.pods import BoundPods
from deviceplugin.gate.rules import Rules
from deviceplugin.gate.start import Hardware, StartGate
from deviceplugin.inventory.earlier import earlier_hands, earlier_health
from deviceplugin.inventory.intake import FaultIntake, Reports
from deviceplugin.inventory.modes import CardModes, Floor
from deviceplugin.inventory.publisher import Publisher
from deviceplugin.inventory.reader import CardReader
from deviceplugin.kubelet.fallback import Fallback
from deviceplugin.kubelet.offer import Offer
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.registrar import Registrar
from deviceplugin.kubelet.servicer import Servicer, Turns
from deviceplugin.kubelet.starter import Starter
from deviceplugin.metrics import PluginMetrics
from deviceplugin.monitor.instances import InstanceSeries
from deviceplugin.monitor.processes import Processes
from deviceplugin.monitor.servers import ServerWatch
from deviceplugin.monitor.watch import Limits, Monitor
from deviceplugin.state.allocations import Allocations
from deviceplugin.state.alone import alone_in
from deviceplugin.state.files import Files
from deviceplugin.state.ledgers import Ledgers
from deviceplugin.state.node import LocalNode
from deviceplugin.state.node_specs import NodeSpecs
from kerf.config.load import PolicyFile, load_settings, required_setting, setting
from kerf.config.vendors import HELP, with_described
from kerf.http.address import parse_bind
from kerf.http.pages import Server, serve_pages
from kerf.kube.client import Kube, connect
from kerf.kube.errors import KubeError
from kerf.kube.events import Events
from kerf.obs.log import start_logging
from kerf.obs.metrics import Metrics
from kerf.probes.base import Probe
from kerf.probes.cgroups import ROOT
from kerf.probes.kernel_log import KernelLog
from kerf.values.device import Backend
from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from kerf.wire.limiter import POLICIES
from kerf.wire.top import render_top

_LOG = logging.getLogger("kerf.deviceplugin")
WITHDRAW_S = 10.0
"""How long an API server that does not answer may delay the end."""
RESTORE_S = 60.0
"""How long an API server that does not answer may keep the kernel log from being read."""
SWITCH_SECONDS = 0.0005
"""How long a loop may keep the interpreter while a container waits to start (Python's default is 5 ms)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the device plugin runs."""

    node_name: str = required_setting("the node's name in Kubernetes")
    probe: str = setting("", "where cards come from: nvml, or simulated:FILE (a fleet file); default: by vendor")
    kubeconfig: str | None = setting(None, "kubeconfig file; without it, the pod's service account")
    pod_resources_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock", "the kubelet's PodResources socket"
    )
    device_plugin_dir: str = setting("/var/lib/kubelet/device-plugins", "directory of the kubelet's plugin sockets")
    cdi_dir: str = setting("/var/run/cdi", "directory for this plugin's CDI specs")
    cdi_specs_from: tuple[str, ...] = setting(
        ("/etc/cdi", "/var/run/cdi"), "directory of the node's own CDI specs for whole cards; repeats"
    )
    cgroup_root: str = setting(
        ROOT, "the host's cgroup v2 directory that holds kubepods, for limits that the driver keeps"
    )
    state_dir: str = setting("/var/run/kerf", "ledgers and records, as a path on the host; need not survive a reboot")
    kernel_log: str = setting(
        "", "where faults of cards are read beside the driver: /dev/kmsg, or a file with its text"
    )
    pod_logs: str = setting("", "the kubelet's directory of pod logs, for errors of servers that ask to be watched")
    resource: tuple[str, ...] = setting(
        (VENDORS[0].words.count,), "an extended resource that the kubelet counts, NAME or VENDOR=NAME; one per vendor"
    )
    slots: int = setting(10, "slices that one card may hold at once, unless the probe knows")
    unified_memory_mib: int = setting(
        0, "MiB to give of a card that shares the host's memory (GB10); 0 gives none and the inventory says why"
    )
    limiter: str | None = setting(
        None, "libkerf.so on the host; without it, ledgers are written but nothing is limited"
    )
    limiter_policy: str = setting("cap", "cap (never above the share), weight (idle time is shared) or priority")
    allow_disable: bool = setting(False, "let a container opt out of the limiter with CUDA_DISABLE_CONTROL=true")
    fallback_env: bool = setting(False, "for runtimes without CDI: answer in Allocate, and refuse what is ambiguous")
    config: str | None = setting(None, "SchedulingPolicy file, for over-commitment and defaults; reloaded on change")
    dra: bool = setting(False, "also be the DRA driver gpu.kerf.dev, for nodes whose pool has allocator: dra")
    plugins_registry_dir: str = setting("/var/lib/kubelet/plugins_registry", "the kubelet's directory of new plugins")
    plugins_dir: str = setting("/var/lib/kubelet/plugins", "directory of the DRA driver's own socket")
    hand_over_seconds: float = setting(10.0, "how long neither allocator offers a card that changes hands")
    leave_seconds: float = setting(1.5, "how long to serve pods that are already bound after the cards were withdrawn")
    metrics_bind: str | None = setting(None, "HOST:PORT for /metrics, /healthz, /readyz and /top")
    overuse_tolerance_mib: int = setting(512, "MiB beyond a slice that the driver may take before it is an overuse")
    overuse_report_after: float = setting(5.0, "seconds an overuse must last to become an event")
    overuse_evict_after: float = setting(0.0, "seconds an overuse must last for its pod to be evicted; 0 is never")
    vendors: tuple[str, ...] = setting((), HELP)
    hami_metrics: bool = setting(False, "also publish metrics under HAMi's names")
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
        # Half a plugin must not continue: without its reader it would offer broken cards.
        _LOG.critical("a thread died", exc_info=died.exc_value)
        crashed.set()
        stop.set()

    threading.excepthook = crash
    try:
        vendors = with_described(VENDORS, settings.vendors)
        with alone_in(settings.state_dir):
            serve(settings, connect(settings.kubeconfig, timeout_s=5.0), stop, vendors)
    except (WireError, KubeError, OSError, ValueError) as error:
        _LOG.error("%s", error)
        return 1
    return int(crashed.is_set())


def serve(settings: Settings, kube: Kube, stop: threading.Event, vendors: tuple[Vendor, ...] = VENDORS) -> None:
    """Run the device plugin until `stop`. Raises WireError if the settings or the policy cannot be used."""
    resources = parse_resources(settings.resource, vendors)
    served = tuple(vendor for vendor in vendors if vendor.name in {resource.vendor for resource in resources})
    rules = _rules(settings, served)
    probes = _probes(settings, served, rules)
    metrics = PluginMetrics.build(registry := Metrics())
    events = Events(kube, "kerf-deviceplugin")
    files = _files(settings, served)
    hardware = hardware_of(probes, files, settings.cgroup_root, fallback=settings.fallback_env)
    node = LocalNode(settings.node_name, hardware.instances.others)
    pods = BoundPods(kube, node, vendors)
    gate = StartGate(pods, files, node, rules, hardware)
    about_node = _about_node(events, settings.node_name)
    readers = [CardReader(probe, read, node, metrics, about_node) for probe, read in probes]
    modes = _modes(readers, gate, node, files, hardware)
    restored = threading.Event()
    intake = FaultIntake(node, served, rules.policy, metrics, _reports(events, settings.node_name, pods))
    _connect(readers, intake, hardware.instances)
    shared = _Shared(settings, gate, files, node, metrics, events)
    kubelet = [_serve_resource(resource, shared) for resource in resources]
    monitor = _monitor(Monitor(kube, pods, node, Ledgers(files), _limits(settings)), modes, registry)
    registry.registry.register(InstanceSeries(hardware.instances, node, monitor, hami=settings.hami_metrics))
    watched = {each.resource.vendor: each.servicer.watched for each in kubelet}
    dra = _dra(settings, kube, node, gate, (rules, metrics))
    earlier = partial(_restore, readers, served, restored, dra.hands)
    publisher = Publisher(kube, node, served, lambda vendor: watched[vendor.name](), metrics, earlier)
    http = _pages(settings, registry, lambda: all(ready() for ready in watched.values()), monitor, gate)
    for reader in readers:
        _start("reader", partial(reader.run, stop))
    _listen(shared, monitor, intake, restored, stop)
    _start("modes", partial(modes.run, stop))
    _start("clean", partial(gate.run_clean_up, stop))
    over = partial(_about_pod, events, reason="Overuse")
    _start("monitor", partial(monitor.run, tuple(probe for probe, _ in probes), over, stop))
    publishing = _start("publisher", partial(publisher.run, stop))
    dra.start(_start, publisher.current, stop)
    done = threading.Event()
    _start("leave", partial(_leave, stop, publishing, settings.leave_seconds, done))
    registrars = [_start("registrar", partial(each.registrar.run, done)) for each in kubelet]
    for registrar in registrars:
        registrar.join()
    _close(http, events, kubelet)


def _modes(
    readers: Sequence[CardReader], gate: StartGate, node: LocalNode, files: Files, hardware: Hardware
) -> CardModes:
    """The cards' modes. Those of an earlier run are known before any card is shown."""
    floor = Floor(Backend.PRELOAD if files.limits else Backend.OBSERVE, hardware.limits.failed)
    modes = CardModes(readers, node, files, gate, floor)
    modes.restore()
    return modes


def _monitor(monitor: Monitor, modes: CardModes, registry: Metrics) -> Monitor:
    monitor.processes.leave_out = modes.servers
    registry.registry.register(monitor)
    return monitor


def _connect(readers: Sequence[CardReader], intake: FaultIntake, instances: Instances) -> None:
    intake.add_instances(instances.hurt)
    for reader in readers:
        reader.connect(intake)
        reader.run_once()


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the resources of one plugin share."""

    settings: Settings
    gate: StartGate
    files: Files
    node: LocalNode
    metrics: PluginMetrics
    events: Events


@dataclass(frozen=True, slots=True)
class _Served:
    """What talks to the kubelet about one resource."""

    resource: Resource
    held: PodResources
    servicer: Servicer
    registrar: Registrar


def _close(http: Server | None, events: Events, kubelet: Sequence[_Served]) -> None:
    if http:
        http.shutdown()
    events.close()
    for each in kubelet:
        each.held.close()


def _serve_resource(resource: Resource, shared: _Shared) -> _Served:
    settings, metrics = shared.settings, shared.metrics
    held = PodResources(settings.pod_resources_socket, settings.device_plugin_dir, resource.name)
    offer = Offer(resource, shared.node, held)
    if settings.fallback_env:
        fallback = Fallback(resource.vendor, shared.gate, Allocations(shared.files), held)
        servicer = Servicer(offer, fallback.allocate, fallback.start, metrics)
    else:
        starter = Starter(resource.vendor, shared.gate, held, partial(_about_refusal, shared.events))
        servicer = Servicer(offer, Turns().allocate, starter.start, metrics)
    return _Served(resource, held, servicer, Registrar(settings.device_plugin_dir, resource, servicer, metrics))


def _start(name: str, loop: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    return thread


def _leave(stop: threading.Event, publishing: threading.Thread, seconds: float, done: threading.Event) -> None:
    """After `stop`, continue to serve until the cards are withdrawn and the pods bound before have arrived."""
    stop.wait()
    publishing.join(WITHDRAW_S)
    done.wait(seconds)
    done.set()


def _rules(settings: Settings, served: tuple[Vendor, ...]) -> Rules:
    policy_file = PolicyFile(settings.config)
    policy_file.start(lambda _: None, _LOG.error)
    limiter = next((known for known in POLICIES if known == settings.limiter_policy), None)
    if limiter is None:
        raise WireError("--limiter-policy", settings.limiter_policy, f"use one of {', '.join(POLICIES)}")
    return Rules(served, lambda: policy_file.policy, limiter, settings.allow_disable)


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.overuse_tolerance_mib,
        settings.overuse_report_after,
        settings.overuse_evict_after,
        settings.hami_metrics,
    )


def _files(settings: Settings, served: tuple[Vendor, ...]) -> Files:
    specs = NodeSpecs(settings.cdi_specs_from, served)
    return Files(settings.state_dir, settings.cdi_dir, settings.limiter, specs)


def _pages(
    settings: Settings, metrics: Metrics, ready: Callable[[], bool], monitor: Monitor, gate: StartGate
) -> Server | None:
    if not settings.metrics_bind:
        return None
    pages = {"/top": lambda _: render_top(monitor.top()), "/records": gate.history.page}
    host, port = parse_bind(settings.metrics_bind)
    address = (host or "127.0.0.1", port)
    return serve_pages(address, metrics, pages, lambda: "" if ready() else "not registered with the kubelet")


def _probes(settings: Settings, served: tuple[Vendor, ...], rules: Rules) -> list[tuple[Probe, tuple[Vendor, ...]]]:
    clean: Callable[[], int] = lambda: rules.policy().recovery.clean_readings  # noqa: E731
    one = Wanted(settings.probe, settings.node_name, settings.slots, settings.unified_memory_mib, clean)
    return probes_of(one, served)


def _about_pod(events: Events, pod: dict[str, Any], message: str, reason: str) -> None:
    meta = pod["metadata"]
    about = {"kind": "Pod", "namespace": meta.get("namespace"), "name": meta.get("name"), "uid": meta.get("uid")}
    events.emit(about, reason, message)


def _about_refusal(events: Events, pod: dict[str, Any], refusal: StartRefusal) -> None:
    _about_pod(events, pod, refusal.message, refusal.why.value)


def _dra(settings: Settings, kube: Kube, node: LocalNode, gate: StartGate, by: tuple[Rules, PluginMetrics]) -> DraRoom:
    """The DRA driver: for the cards of the first vendor that this plugin serves."""
    rules, metrics = by
    hands = HandRules(rules.vendors[0].name, rules.policy, settings.dra, settings.hand_over_seconds)
    directories = Directories(settings.plugins_registry_dir, settings.plugins_dir) if settings.dra else None
    return DraRoom(kube, node, gate, hands, metrics, directories)


def _restore(
    readers: Sequence[CardReader],
    served: tuple[Vendor, ...],
    restored: threading.Event,
    hands: Hands,
    notes: dict[str, str],
) -> None:
    healths = earlier_health(notes, served)
    for reader in readers:
        reader.restore(healths)
    hands.restore(earlier_hands(notes, served))
    restored.set()


def _listen(
    shared: _Shared, monitor: Monitor, intake: FaultIntake, restored: threading.Event, stop: threading.Event
) -> None:
    """Start the sources of faults beside the hardware: the kernel log, and servers that ask to be watched."""
    settings = shared.settings
    said = partial(_about_pod, shared.events, reason="ServerFault")
    servers = ServerWatch(monitor.pods, shared.gate.pods.parse, intake.take, said, settings.pod_logs)
    _start("servers", partial(servers.run, stop))
    if settings.kernel_log:
        _start("kernel log", partial(_follow_log, settings.kernel_log, intake, restored, stop))


def _follow_log(path: str, intake: FaultIntake, restored: threading.Event, stop: threading.Event) -> None:
    """Follow the kernel log once it is known what an earlier run made of its last minutes."""
    restored.wait(RESTORE_S)
    KernelLog(path, time.time).run(intake.take, stop)


def _reports(events: Events, node: str, pods: BoundPods) -> Reports:
    """Faults as Events: about the node, and about the pod of the process that a fault names."""
    processes = Processes()

    def about_process(pid: int, sentence: str) -> None:
        owner = processes.owner_of(pid)
        try:
            pod = pods.list().by_uid(owner[0]) if owner else None
        except KubeError as error:
            _LOG.warning("the pod of process %d is not known: %s", pid, error)
            return
        if pod is not None:
            _about_pod(events, pod, sentence, "CardFault")

    def about_card(card: str, sentence: str) -> None:
        for pod in pods.on_card(card):
            _about_pod(events, pod, sentence, "CardFault")

    about: dict[str, Any] = {"kind": "Node", "name": node, "uid": node}
    return Reports(lambda sentence: events.emit(about, "CardFault", sentence), about_process, about_card)


def _about_node(events: Events, node: str) -> Callable[[str], None]:
    about = {"kind": "Node", "name": node, "uid": node}
    return lambda sentence: events.emit(about, "CardHealth", sentence)
