"""The doors of the usage server: TLS from files that are read again when they change, and pages for probes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

from kerf.obs.metrics import Metrics
from kerf.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class Files:
    """Of the server's certificate and key, and of the CA of clients."""

    cert: str
    key: str
    client_ca: str = ""


def credentials(files: Files, *, clients: bool = False) -> grpc.ServerCredentials:
    """TLS; with `clients` only for clients whose certificate the CA has signed. Raises WireError."""
    first = _read(files, clients)
    last = [first]

    def newest() -> Any:  # noqa: ANN401 (gRPC takes None, its stubs do not)
        """Called in each handshake; None: nothing has changed. A file that cannot be read changes nothing."""
        try:
            found = _read(files, clients)
        except WireError:
            return None
        if found == last[0]:
            return None
        last[0] = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(_configuration(first), newest, require_client_authentication=clients)


def pages(address: tuple[str, int], metrics: Metrics) -> ThreadingHTTPServer:
    """Serve /metrics, /healthz and /readyz in a thread."""
    server = ThreadingHTTPServer(address, _handler({"/metrics": metrics.render, "/healthz": _ok, "/readyz": _ok}))
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


Certificates = tuple[bytes, bytes, bytes | None]


def _configuration(found: Certificates) -> grpc.ServerCertificateConfiguration:
    cert, key, ca = found
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)


def _read(files: Files, clients: bool) -> Certificates:
    try:
        ca = Path(files.client_ca).read_bytes() if clients else None
        return Path(files.cert).read_bytes(), Path(files.key).read_bytes(), ca
    except OSError as error:
        raise WireError("--tls-cert, --tls-key, --client-ca", str(error), "name readable PEM files") from error


def _ok() -> bytes:
    return b"ok\n"


def _handler(found: dict[str, Callable[[], bytes]]) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = found.get(self.path.partition("?")[0])
            body = page() if page else b"not found\n"
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are no news."""

    return Pages
