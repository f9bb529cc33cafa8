"""Whether this machine can run a real kubelet, and the claim to it, which one sandbox holds at a time."""

import fcntl
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from sandbox.errors import NodeUnavailableError
from sandbox.nodefiles import DEVICE_PLUGINS
from sandbox.reap import enable_controllers, hierarchies

PROBE = Path(__file__).with_name("namespaces.py")
PROBE_GROUP = "kerf-probe"
LOCK = DEVICE_PLUGINS.parent / "kerf-sandbox.lock"


def node_obstacle() -> str | None:
    """Why a real kubelet cannot run here, in one clause; None if it can."""
    checks = (_not_linux, _not_root, _no_kmsg, _no_cgroups, _no_namespaces, _foreign_kubelet)
    return next((reason for check in checks if (reason := check())), None)


def claim_node(holder: str) -> IO[str]:
    """Claim the machine's one kubelet directory for `holder`, until the returned file is closed.

    Raises NodeUnavailableError if a kubelet cannot run here or another sandbox has the directory.
    """
    if reason := node_obstacle():
        raise NodeUnavailableError(f"a real node cannot run here: {reason}")
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = LOCK.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        other = lock.read().strip()
        lock.close()
        raise NodeUnavailableError(
            f"{DEVICE_PLUGINS} serves one kubelet per machine, and another sandbox has it ({other})"
        ) from None
    lock.truncate(0)
    lock.write(holder)
    lock.flush()
    return lock


def clear_device_plugins() -> None:
    """Remove the device checkpoint of an earlier node's kubelet. Only under the claim."""
    DEVICE_PLUGINS.mkdir(parents=True, exist_ok=True)
    for entry in DEVICE_PLUGINS.iterdir():
        if entry.is_socket() or entry.name == "kubelet_internal_checkpoint":
            entry.unlink()


def _not_linux() -> str | None:
    return None if sys.platform == "linux" else f"{sys.platform} is not Linux"


def _not_root() -> str | None:
    return None if os.geteuid() == 0 else f"user {os.geteuid()} is not root"


def _no_kmsg() -> str | None:
    return None if os.access("/dev/kmsg", os.R_OK) else "/dev/kmsg cannot be read"


def _no_cgroups() -> str | None:
    roots = hierarchies()
    if not roots:
        return "no cgroup hierarchy is mounted"
    for root in roots:
        try:
            enable_controllers(root)
            (root / PROBE_GROUP).mkdir(exist_ok=True)
            (root / PROBE_GROUP).rmdir()
        except OSError as error:
            return f"cannot create a control group in {root} ({error.strerror})"
    return None


def _no_namespaces() -> str | None:
    probe = subprocess.run((sys.executable, "-I", "-S", str(PROBE)), check=False, capture_output=True)
    if probe.returncode == 0:
        return None
    return f"the kernel refuses namespaces or a network bridge ({os.strerror(probe.returncode)})"


def _foreign_kubelet() -> str | None:
    """A kubelet listens that belongs to no sandbox."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(DEVICE_PLUGINS / "kubelet.sock"))
        except OSError:
            return None
    with suppress(OSError), LOCK.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # a sandbox: claim_node names it
    return "this machine already runs a kubelet of its own"
