"""Pages for probes and scrapes under hostile clients."""

import contextlib
import socket
import urllib.request
from collections.abc import Iterator

import pytest

from kerf.http.pages import Server, serve_pages
from kerf.obs.metrics import Metrics

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(Server, "connections", 3)
    monkeypatch.setattr(Server, "seconds", 0.3)
    server = serve_pages(("127.0.0.1", 0), Metrics())
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def answer(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def healthy(port: int) -> bool:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(REQUEST)
        return answer(connection).startswith(b"HTTP/1.0 200")
    return False


def test_one_that_dribbles_its_headers_is_given_up(port: int) -> None:
    with connect(port) as slow:
        ended = False
        for _ in range(10_000):  # each write is well within the handler's own time-out
            try:
                slow.sendall(b"G")
                slow.settimeout(0.02)
                if slow.recv(100) == b"":
                    ended = True
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
                break

        assert ended
    assert healthy(port)


def test_connections_too_many_are_closed_and_a_later_one_is_served(port: int) -> None:
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(connect(port)) for _ in range(3)]
        assert not healthy(port)
        assert [answer(each) for each in inside] == [b"", b"", b""]
    while not healthy(port):
        pass


def test_a_hundred_megabytes_are_not_read(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100 << 20:
                connection.sendall(b" " * (1 << 20))
                sent += 1 << 20

        assert sent < 100 << 20
    assert healthy(port)


def test_an_endless_request_line_is_refused(port: int) -> None:
    with connect(port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /" + b"a" * 200_000)
        answer(connection)

    assert healthy(port)


def test_it_serves_on_an_address_of_ipv6() -> None:
    server = serve_pages(("::1", 0), Metrics())
    try:
        with urllib.request.urlopen(f"http://[::1]:{server.server_address[1]}/healthz", timeout=5) as answer:
            assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()
