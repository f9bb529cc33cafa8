"""How long single calls take."""

import time
from collections.abc import Callable


def timed(once: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    ranked = sorted(seconds)
    return {f"{name}_p{p}_ms": round(1000 * ranked[min(len(ranked) * p // 100, len(ranked) - 1)], 2) for p in (50, 99)}
