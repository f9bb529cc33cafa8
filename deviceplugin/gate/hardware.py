"""The probes of a node's cards, and what the gate has their drivers do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deviceplugin.gate.instances import Instances
from deviceplugin.gate.limits import PodLimits
from deviceplugin.gate.start import Hardware
from deviceplugin.state.files import Files
from kerf.probes.base import Probe
from kerf.values.vendor import Vendor
from kerf.wire.errors import WireError

Probes = Sequence[tuple[Probe, tuple[Vendor, ...]]]
"""Each probe with the vendors whose cards it reads."""
TOO_EARLY = "with --fallback-env a pod is answered before the kubelet has made its cgroup"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which probe, and what it is given."""

    probe: str
    node: str
    slots: int
    unified_mib: int
    clean_reads: Callable[[], int]


def probes_of(wanted: Wanted, served: tuple[Vendor, ...]) -> list[tuple[Probe, tuple[Vendor, ...]]]:
    """The probes of these vendors' cards. Raises WireError."""
    kind, _, path = wanted.probe.partition(":")
    if kind == "simulated" and path:
        from kerf.probes.simulated import SimulatedProbe

        return [(SimulatedProbe(path, wanted.node, wanted.slots, wanted.clean_reads), served)]
    return [(_of_vendor(wanted, vendor), (vendor,)) for vendor in served]


def hardware_of(probes: Probes, files: Files, cgroup_root: str, *, fallback: bool) -> Hardware:
    """Instances and limits by the drivers of these probes."""
    by_vendor = [(vendor.name, probe) for probe, read in probes for vendor in read]
    limits = PodLimits(
        Path(cgroup_root), {name: probe.limits for name, probe in by_vendor}, TOO_EARLY if fallback else ""
    )
    return Hardware(Instances(files, {name: probe.mig for name, probe in by_vendor}), limits)


def _of_vendor(wanted: Wanted, vendor: Vendor) -> Probe:
    if vendor.probe == "nvml" and wanted.probe in {"", "nvml"}:
        from kerf.probes.nvml import NvmlProbe

        return NvmlProbe(wanted.slots, wanted.clean_reads, unified_mib=wanted.unified_mib)
    fix = f"use {vendor.probe} or simulated:FILE" if vendor.probe else "use simulated:FILE"
    raise WireError("--probe", wanted.probe, f"{fix} for the cards of {vendor.name}")
