"""The files of one run and the loopback ports of its parts."""

import atexit
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from sandbox.errors import SandboxError

BLOCK = 32
BLOCKS = range(20_000, 32_000, BLOCK)
"""First ports of the blocks that processes claim. Linux gives connections their own ports from 32,768 on."""

_DRAWING = threading.Lock()
_LEFT: list[int] = []


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    etcd: int
    etcd_peer: int
    etcd_health: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kwok: int

    @classmethod
    def free(cls) -> Self:
        """Different ports, all free a moment ago."""
        return cls(*free_ports(len(fields(cls))))


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a control plane below `run_dir`."""

    run_dir: Path
    ports: Ports

    @property
    def pki(self) -> Path:
        """Certificates, keys and the token file."""
        return self.run_dir / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration and kubeconfigs."""
        return self.run_dir / "config"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log."""
        return self.run_dir / "logs" / "audit.log"

    @property
    def url(self) -> str:
        """The API server."""
        return f"https://127.0.0.1:{self.ports.apiserver}"


def free_ports(count: int) -> tuple[int, ...]:
    """Different TCP ports on 127.0.0.1, all free a moment ago.

    A server may take its port minutes later: while this process lives, no other one gets it from here. Raises
    SandboxError where all are claimed.
    """
    with _DRAWING:
        return tuple(_next_port() for _ in range(count))


def _next_port() -> int:
    while True:
        if not _LEFT:
            _LEFT.extend(_claim_block())
        if _is_free(port := _LEFT.pop(0)):
            return port


def _claim_block() -> range:
    """Ports that no other process claims. The claim is the UDP port of the first, which nothing else here uses."""
    for first in BLOCKS:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", first))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        return range(first, first + BLOCK)
    raise SandboxError(f"the ports from {BLOCKS.start} to {BLOCKS.stop} are all claimed by sandboxes that run here")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def run_directory() -> Iterator[Path]:
    """A new directory for one run, with a short path because it holds sockets. Kept for reading if the body fails."""
    directory = Path(tempfile.mkdtemp(prefix="kerf-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
