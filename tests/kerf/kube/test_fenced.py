"""A POST that asks before it sends, over real sockets."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kerf.kube import errors
from kerf.kube.client import KubeClient, connect
from tests.kerf.kube.test_client import kubeconfig

YES, NO = (lambda: True), (lambda: False)


class Server:
    """Follows a script: `go` takes the body, `refuse` does not, `hang up` and `mute` do not answer."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.bodies: list[bytes] = []
        self.heads: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := self._head(stream):
                self.heads.append(head)
                step = self.script.pop(0) if self.script else "go"
                if step == "hang up":
                    return
                if step == "refuse":
                    text = b'{"message": "later"}'
                    connection.sendall(b"HTTP/1.1 429 Slow\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
                    return
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = next(
                    int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length")
                )
                body = stream.read(length)
                self.bodies.append(body)
                if step == "mute":
                    return
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                if step == "go once":
                    return

    def _head(self, stream) -> str:
        lines = []
        while (line := stream.readline().decode()) not in ("", "\r\n"):
            lines.append(line)
        return "".join(lines)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Iterator[KubeClient]:
    made = connect(str(kubeconfig(tmp_path, server.port)))
    yield made
    made.close()


def test_the_body_follows_once_the_server_has_begun_and_the_connection_is_kept(server, client):
    assert client.create_while("/x", {"a": 1}, YES, 1.0) == {"a": 1}
    assert client.create_while("/x", {"a": 2}, YES, 1.5) == {"a": 2}

    assert [head.splitlines()[0] for head in server.heads] == [
        "POST /x?timeout=1000ms HTTP/1.1",
        "POST /x?timeout=1500ms HTTP/1.1",
    ]
    assert "authorization: Bearer secret" in server.heads[0]
    assert "Expect: 100-continue" in server.heads[0]


def test_whoever_may_no_longer_act_sends_no_body(server, client):
    with pytest.raises(errors.Withheld):
        client.create_while("/x", {"a": 1}, NO, 1.0)

    assert client.create_while("/x", {"a": 2}, YES, 1.0) == {"a": 2}
    assert [json.loads(body) for body in server.bodies if body] == [{"a": 2}]


def test_the_question_is_asked_after_the_server_has_begun(server, client):
    begun = []
    client.create_while("/x", {}, lambda: bool(begun.append(len(server.heads)) or True), 1.0)

    assert begun == [1]


def test_a_refusal_before_the_body_means_that_nothing_happened(server, client):
    server.script = ["refuse"]

    with pytest.raises(errors.Unsent, match="429"):
        client.create_while("/x", {}, YES, 1.0)


def test_an_answer_that_is_lost_after_the_body_is_unknown(server, client):
    server.script = ["mute"]

    with pytest.raises(errors.Unreachable) as raised:
        client.create_while("/x", {}, YES, 1.0)

    assert not isinstance(raised.value, errors.Unsent)


def test_a_kept_connection_that_the_server_has_closed_is_opened_again(server, client):
    server.script = ["go once"]
    client.create_while("/x", {"a": 1}, YES, 1.0)

    assert client.create_while("/x", {"a": 2}, YES, 1.0) == {"a": 2}


def test_a_server_that_hangs_up_before_it_began_has_done_nothing(server, client):
    server.script = ["hang up"]

    with pytest.raises(errors.Unsent):
        client.create_while("/x", {}, YES, 1.0)


def test_nobody_there_is_unsent(tmp_path):
    with pytest.raises(errors.Unsent):
        connect(str(kubeconfig(tmp_path, 1))).create_while("/x", {}, YES, 1.0)
