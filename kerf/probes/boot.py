"""Which boot of the node this is, and when it was."""

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's id of this boot; empty where it cannot be read."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()[:36]
    except (OSError, ValueError):
        return ""


def booted_at() -> float:
    """Seconds since 1970 at which the kernel's clock for its log was zero."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
