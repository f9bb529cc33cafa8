"""A POST that asks before it sends, over real sockets."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from kerf.http.poster import MOST_CONNECTIONS
from kerf.kube import errors
from kerf.kube.client import connect
from tests.kerf.kube.test_client import kubeconfig

YES, NO = (lambda: True), (lambda: False)


class Server:
    """Follows a script: `go` takes the body, `refuse` does not, `hang up`, `mute` and `wait` do not answer."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.bodies: list[bytes] = []
        self.heads: list[str] = []
        self.connections = 0
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
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := self._head(stream):
                self.heads.append(head)
                step = self.script.pop(0) if self.script else "go"
                if step == "wait":
                    stream.read(1)
                    return
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
                if step == "wait after the body":
                    stream.read(1)
                    return
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


class Client:
    """A client on a loop of its own, as in the scheduler, so that a test reads as a sequence of calls."""

    def __init__(self, folder: Path, port: int) -> None:
        self._loop = uvloop.new_event_loop()
        self._kube = connect(str(kubeconfig(folder, port)))

    def create_while(self, body: object, holds: Callable[[], bool] = YES, timeout_s: float = 1.0) -> object:
        return self._loop.run_until_complete(self._kube.create_while("/x", body, holds, timeout_s))

    def at_once(self, bodies: list[object]) -> list[object]:
        async def all_of_them() -> list[object]:
            return await asyncio.gather(*(self._kube.create_while("/x", body, YES, 1.0) for body in bodies))

        return self._loop.run_until_complete(all_of_them())

    def close(self) -> None:
        async def close() -> None:
            self._kube.close()
            await asyncio.sleep(0)

        self._loop.run_until_complete(close())
        self._loop.close()


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path, server.port)
    yield made
    made.close()


def test_the_body_follows_once_the_server_has_begun_and_the_connection_is_kept(server, client):
    assert client.create_while({"a": 1}) == {"a": 1}
    assert client.create_while({"a": 2}, timeout_s=1.5) == {"a": 2}

    assert [head.splitlines()[0] for head in server.heads] == [
        "POST /x?timeout=1000ms HTTP/1.1",
        "POST /x?timeout=1500ms HTTP/1.1",
    ]
    assert server.connections == 1
    assert "authorization: Bearer secret" in server.heads[0]
    assert "Expect: 100-continue" in server.heads[0]


def test_a_replica_that_may_no_longer_act_sends_no_body(server, client):
    with pytest.raises(errors.Withheld):
        client.create_while({"a": 1}, NO)

    assert client.create_while({"a": 2}) == {"a": 2}
    assert [json.loads(body) for body in server.bodies if body] == [{"a": 2}]


def test_posts_at_the_same_time_use_a_connection_each_and_keep_them(server, client):
    many = [{"a": number} for number in range(5)]

    assert client.at_once(many) == many
    assert client.at_once(many) == many
    assert server.connections == 5


def test_further_posts_wait_for_a_connection(server, client):
    many = [{"a": number} for number in range(3 * MOST_CONNECTIONS)]

    assert client.at_once(many) == many
    assert server.connections == MOST_CONNECTIONS


def test_a_server_that_is_silent_before_the_body_has_done_nothing_and_after_it_nobody_knows(server, client):
    server.script = ["wait", "wait after the body"]

    with pytest.raises(errors.Unsent, match="no answer in"):
        client.create_while({}, timeout_s=0.1)
    with pytest.raises(errors.Unreachable, match="no answer in") as raised:
        client.create_while({}, timeout_s=0.1)

    assert not isinstance(raised.value, errors.Unsent)
    assert client.create_while({"a": 2}) == {"a": 2}


def test_a_question_that_fails_is_the_callers_and_sends_nothing(server, client):
    def fails() -> bool:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        client.create_while({}, fails)

    assert client.create_while({"a": 2}) == {"a": 2}
    assert [json.loads(body) for body in server.bodies if body] == [{"a": 2}]


def test_the_question_is_asked_after_the_server_has_begun(server, client):
    begun = []
    client.create_while({}, lambda: bool(begun.append(len(server.heads)) or True))

    assert begun == [1]


def test_a_refusal_before_the_body_means_that_nothing_happened(server, client):
    server.script = ["refuse"]

    with pytest.raises(errors.Unsent, match="429"):
        client.create_while({})


def test_an_answer_that_is_lost_after_the_body_is_unknown(server, client):
    server.script = ["mute"]

    with pytest.raises(errors.Unreachable) as raised:
        client.create_while({})

    assert not isinstance(raised.value, errors.Unsent)


def test_a_kept_connection_that_the_server_has_closed_is_opened_again(server, client):
    server.script = ["go once"]
    client.create_while({"a": 1})

    assert client.create_while({"a": 2}) == {"a": 2}


def test_a_server_that_hangs_up_before_it_began_has_done_nothing(server, client):
    server.script = ["hang up"]

    with pytest.raises(errors.Unsent):
        client.create_while({})


def test_nobody_there_is_unsent(tmp_path):
    nobody = Client(tmp_path, 1)
    with pytest.raises(errors.Unsent):
        nobody.create_while({})
    nobody.close()
