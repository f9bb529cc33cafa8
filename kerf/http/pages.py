"""A small read-only HTTP server: /metrics, /healthz, /readyz, and further pages of JSON text.

One request per connection and no bodies. A client takes one thread for at most `seconds`, and only `connections`
clients are served at a time.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from kerf.obs.metrics import Metrics

_LOG = logging.getLogger("kerf.http")
Page = Callable[[str], str]
"""The JSON text of a page, by the query of its address."""


class Server(ThreadingHTTPServer):
    """A server with few, short connections. A connection beyond the limit is closed unread."""

    daemon_threads = True
    connections = 16
    seconds = 10.0
    """From the start of the connection to the end of the answer, even if the client keeps sending."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.Semaphore(self.connections)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def shutdown(self) -> None:
        """Serve no more, and free the port."""
        super().shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (the base class's types)
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        deadline = threading.Timer(self.seconds, _hang_up, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        _LOG.debug("a connection from %s ended early", client_address, exc_info=True)


def serve_pages(
    address: tuple[str, int],
    metrics: Metrics,
    pages: Mapping[str, Page] = MappingProxyType({}),
    unready: Callable[[], str] = lambda: "",
) -> Server:
    """Serve from its own thread; `pages` return JSON text, `unready` says what is not ready. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/metrics":
                self._answer(200, metrics.render(), "text/plain; version=0.0.4")
            elif path == "/healthz":
                self._answer(200, b"ok\n", "text/plain")
            elif path == "/readyz":
                why = unready()
                self._answer(503 if why else 200, f"{why or 'ok'}\n".encode(), "text/plain")
            elif path in pages:
                self._answer(200, pages[path](query).encode(), "application/json")
            else:
                self._answer(404, b"not found\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it)
            _LOG.debug(format, *args)

    server = Server(address, Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
