"""The files of one run and the loopback ports of its parts."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self


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
    """Different TCP ports on 127.0.0.1, all free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)


@contextmanager
def run_directory() -> Iterator[Path]:
    """A new directory for one run, with a short path because it holds sockets. Kept for reading if the body fails."""
    directory = Path(tempfile.mkdtemp(prefix="kerf-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
