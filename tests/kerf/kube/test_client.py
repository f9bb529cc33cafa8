"""The client over real HTTP: raw JSON in and out, pages, watches, one exception tree."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kerf.kube import errors
from kerf.kube.client import KubeClient, connect


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if query.get("watch"):
            lines = [{"type": "ADDED", "object": {"metadata": {"name": "a"}}}]
            if "old" in query.get("resourceVersion", []):
                lines = [{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}]
            self.answer(200, b"\n".join(json.dumps(line).encode() for line in lines) + b"\n")
        elif path == "/things":
            more = {} if query.get("continue") else {"continue": "next"}
            name = "second" if query.get("continue") else "first"
            self.answer(
                200, json.dumps({"metadata": {"resourceVersion": "7", **more}, "items": [{"n": name}]}).encode()
            )
        else:
            status = int(path.strip("/"))
            self.answer(status, json.dumps({"reason": "Because", "message": "the words"}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sent = {"type": self.headers["Content-Type"], "token": self.headers["Authorization"], "body": json.loads(body)}
        self.answer(201, json.dumps(sent).encode())

    do_PATCH = do_PUT = do_DELETE = do_POST  # noqa: N815

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def client(tmp_path: Path) -> Iterator[KubeClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield connect(str(kubeconfig(tmp_path, server.server_port)))
    server.shutdown()
    server.server_close()


def kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


def test_a_list_is_read_page_by_page(client):
    assert client.list("/things") == ([{"n": "first"}, {"n": "second"}], "7")
    assert [*client.pages("/things")] == [([{"n": "first"}], "7"), ([{"n": "second"}], "7")]


def test_writes_carry_the_token_and_the_patch_type(client):
    assert client.create("/x", {"a": 1}) == {"type": "application/json", "token": "Bearer secret", "body": {"a": 1}}
    assert client.patch("/x", {"a": 1})["type"] == "application/merge-patch+json"
    assert client.patch("/x", {"a": 1}, "apply", {"fieldManager": "kerf"})["type"] == "application/apply-patch+yaml"


def test_a_watch_yields_events(client):
    assert list(client.watch("/things", "5")) == [("ADDED", {"metadata": {"name": "a"}})]


def test_a_watch_that_is_too_old_is_gone(client):
    with pytest.raises(errors.Gone):
        list(client.watch("/things", "old"))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.Invalid),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (422, errors.Invalid),
        (429, errors.Busy),
        (500, errors.Busy),
        (503, errors.Busy),
    ],
)
def test_every_refusal_is_an_exception_of_ours_with_the_servers_words(client, status, error):
    with pytest.raises(error, match="the words") as raised:
        client.get(f"/{status}")

    assert raised.value.status == status


def test_nobody_there_is_unreachable(tmp_path):
    with pytest.raises(errors.Unreachable):
        connect(str(kubeconfig(tmp_path, 1))).get("/200")


def test_a_kubeconfig_that_is_not_there_says_what_to_pass():
    with pytest.raises(errors.KubeError, match="--kubeconfig"):
        connect("/nowhere")
