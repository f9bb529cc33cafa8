"""Whether this machine can run real kubelets, and the claim of each one to its addresses."""

import os
import secrets
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from sandbox.errors import NodeUnavailableError
from sandbox.reap import enable_controllers, hierarchies

PROBE = Path(__file__).with_name("namespaces.py")
NETWORKS = range(77, 256)


def node_obstacle() -> str | None:
    """Why a real kubelet cannot run here, in one clause; None if it can."""
    checks = (_not_linux, _not_root, _no_kmsg, _no_cgroups, _no_namespaces)
    return next((reason for check in checks if (reason := check())), None)


def claim_network() -> tuple[int, socket.socket]:
    """A network (`NodeFiles.network`) that no other node on this machine has, until every copy of the socket is closed.

    Raises NodeUnavailableError if all are taken.
    """
    claim = socket.socket(socket.AF_UNIX)
    for network in NETWORKS:
        with suppress(OSError):  # another node has that name
            claim.bind(f"\0kerf-sandbox-198.18.{network}")
            return network, claim
    claim.close()
    raise NodeUnavailableError(f"{len(NETWORKS)} nodes of sandboxes run on this machine already")


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
            probe = root / f"kerf-probe-{secrets.token_hex(4)}"  # several nodes may start at the same time
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return f"cannot create a control group in {root} ({error.strerror})"
    return None


def _no_namespaces() -> str | None:
    probe = subprocess.run((sys.executable, "-I", "-S", str(PROBE)), check=False, capture_output=True)
    if probe.returncode == 0:
        return None
    return f"the kernel refuses namespaces or a network bridge ({os.strerror(probe.returncode)})"
