"""Whose use a pod's grant is: what metering knows of a pod beside its grant."""

from dataclasses import dataclass

from kerf.values.quick import quick

VLLM = "vllm"
SGLANG = "sglang"
IMAGES = {"vllm-openai": VLLM}
"""Images whose entry point is the engine's server itself, by the last part of the repository's name."""


def engine_of_image(image: str) -> str:
    """The engine that an image starts by itself; empty where it starts none that we know."""
    return IMAGES.get(image.partition("@")[0].rpartition("/")[2].partition(":")[0], "")


@dataclass(frozen=True, slots=True)
class EnginePort:
    """Where a pod's inference engine shows its counters."""

    engine: str
    container: str
    port: int
    path: str = "/metrics"


@quick
@dataclass(frozen=True, slots=True)
class Subject:
    """A pod as metering sees it.

    `bound_ms` is when it was bound, by the API server's clock, in milliseconds since 1970; 0 where nothing says so.
    `workload` is the object that people wrote, as `Deployment/chat`. `model` is "" where nothing names one.
    """

    bound_ms: int = 0
    workload: str = ""
    model: str = ""
    engine: EnginePort | None = None


NO_SUBJECT = Subject()
