"""NVIDIA cards through NVML, in parts: driver, cards, links, faults, processes. Only `driver` imports `pynvml`."""

from kerf.probes.nvml.probe import NvmlProbe

__all__ = ["NvmlProbe"]
