"""A port on this machine whose connections go to the page: bytes in, bytes out."""

import contextlib
import hashlib
import socket
import threading
from typing import Protocol

PART = 64 << 10
MOST = 64
"""Connections at the same time."""
FIRST_PORT, PORTS = 20_000, 10_000
"""Below the ports that systems give to outgoing connections by default."""


class Opens(Protocol):
    """What a connection goes to."""

    def open(self) -> socket.socket:
        """A connected socket. Raises OSError."""


def usual_port(server: str, namespace: str) -> int:
    """The port that a release's page has on this machine where nothing else has it.

    A browser keeps a session, a theme and open tabs by host and port, so the next `kerf ui` finds them again.
    """
    number = int.from_bytes(hashlib.sha256(f"{server} {namespace}".encode()).digest()[:4], "big")
    return FIRST_PORT + number % PORTS


def forward_to(target: Opens, asked: int, usual: int) -> "Forward":
    """Listen on the port that was asked for, else on the usual one, else on any. Raises OSError."""
    if asked:
        return Forward(target, asked)
    try:
        return Forward(target, usual)
    except OSError:
        return Forward(target, 0)


class Forward:
    """Listens on 127.0.0.1. Each connection has two threads, since a browser keeps a handful."""

    def __init__(self, target: Opens, port: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", port))
        self._room = threading.Semaphore(MOST)
        self.port = int(self._listening.getsockname()[1])
        self.problem = ""
        """Why the last connection could not be opened."""
        threading.Thread(target=self._accept, name="forward", daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with self._room, near:
            try:
                far = self._target.open()
            except OSError as error:
                self.problem = str(error)
                return
            self.problem = ""
            with far:
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(PART):
            sink.sendall(part)
    for each in (source, sink):  # one side has ended, so the other has nothing left to wait for
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
