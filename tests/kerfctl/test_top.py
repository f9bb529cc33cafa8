"""`kerf top`: the nodes' answers as a table, as JSON, and one line where no monitor answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kerfctl.main import main

ROW = {
    "namespace": "default",
    "pod": "chat",
    "container": "main",
    "card": "GPU-0",
    "limit_mib": 8000,
    "used_mib": 5000,
    "peak_mib": 6000,
    "driver_mib": 5010,
    "denied": 2,
    "cores": 30,
    "busy_percent": 28,
    "throttled_ms": 10,
    "launches": 100,
    "processes": [{"pid": 7, "host_pid": 70, "command": "python", "used_mib": 5000}],
    "events": {},
    "bypassed": False,
}


@pytest.fixture
def node() -> Iterator[tuple[str, dict]]:
    answer = {"v": 1, "cards": [], "containers": [ROW], "overuse": []}

    class Monitor(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200 if self.path == "/top" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Monitor)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()


def test_a_table_shows_use_against_the_slice(node, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["top", node[0]]) == 0

    out = capsys.readouterr().out
    assert "5,000 / 8,000" in out
    assert "python (7)" in out


def test_use_past_the_limiter_is_shown_and_is_a_non_zero_exit(node, capsys):
    node[1]["overuse"] = ["default/chat holds 9,000 MiB of GPU-0, granted 8,000 MiB"]

    assert main(["top", node[0]]) == 1
    assert "granted 8,000 MiB" in capsys.readouterr().out.replace("\n", " ")


def test_json_is_what_the_nodes_said(node, capsys):
    assert main(["top", node[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {node[0]: node[1]}


def test_another_version_is_one_line(node, capsys):
    node[1]["v"] = 2

    assert main(["top", node[0]]) == 1
    assert "of another version of kerf" in capsys.readouterr().err


def test_nobody_there_is_one_line(capsys):
    assert main(["top", "http://127.0.0.1:1"]) == 1
    assert "no node monitor answers" in capsys.readouterr().err
