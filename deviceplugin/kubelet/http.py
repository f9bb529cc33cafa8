"""A small read-only HTTP server: /metrics, /healthz, /readyz and what else it is given."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kerf.obs.metrics import Metrics

_LOG = logging.getLogger("kerf.deviceplugin.http")
Page = Callable[[], object]


def serve_http(
    bind: str, metrics: Metrics, ready: Callable[[], bool], pages: Mapping[str, Page]
) -> ThreadingHTTPServer:
    """Serve on HOST:PORT from a thread of its own; `pages` answer JSON. Raises OSError, ValueError."""
    host, _, port = bind.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, metrics.render(), "text/plain; version=0.0.4")
            elif path == "/healthz":
                self._answer(200, b"ok\n", "text/plain")
            elif path == "/readyz":
                status, words = (200, b"ok\n") if ready() else (503, b"not registered with the kubelet\n")
                self._answer(status, words, "text/plain")
            elif path in pages:
                self._answer(200, json.dumps(pages[path]()).encode(), "application/json")
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

    server = ThreadingHTTPServer((host.strip("[]") or "127.0.0.1", int(port)), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
