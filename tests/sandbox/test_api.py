"""The sandbox's client of the API server, against a server on loopback."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kerf.http.pki import Authority
from sandbox import ApiError
from sandbox.api import Api

Answer = tuple[int, dict[str, str], dict[str, str]]


@contextmanager
def served(folder: Path, answer: Callable[[], Answer]) -> Iterator[Api]:
    """A client of a server that gives these answers (status, headers, body), whatever is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer()
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    authority = Authority()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("server", (), ("127.0.0.1",)).write(folder, "server"))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    api = Api(f"https://127.0.0.1:{server.server_port}", "", trust)
    yield api
    api.close()
    server.shutdown()
    server.server_close()


def test_a_call_is_made_again_after_the_seconds_that_the_api_server_asks_for(tmp_path: Path):
    answers: list[Answer] = [(429, {"Retry-After": "1"}, {"message": "storage is (re)initializing"}), (200, {}, {})]
    began = time.monotonic()

    with served(tmp_path, lambda: answers.pop(0)) as api:
        assert api.get("/apis/example.com/v1/things") == {}

    assert answers == []
    assert time.monotonic() - began >= 1


def test_a_429_that_asks_for_no_wait_is_an_error(tmp_path: Path):
    asked: list[int] = []

    def refuse() -> Answer:
        asked.append(1)
        return 429, {}, {"message": "Cannot evict pod"}

    with served(tmp_path, refuse) as api, pytest.raises(ApiError, match="429 Cannot evict pod"):
        api.get("/api/v1/pods")

    assert len(asked) == 1


def test_nobody_waits_longer_than_a_call_may_take(tmp_path: Path):
    asks = (429, {"Retry-After": "3600"}, {"message": "too many requests"})

    with served(tmp_path, lambda: asks) as api, pytest.raises(ApiError, match="429 too many requests"):
        api.get("/api/v1/pods")
