"""Servers that ask to be watched: a real page on this host, and logs as the kubelet keeps them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.gate.pods import BoundPods
from deviceplugin.monitor.servers import ANNOTATION, ServerWatch
from deviceplugin.state.node import LocalNode
from kerf.testing.builders import a_grant, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.fault import Fault, Signal
from kerf.vendors.registry import VENDORS

STALLED = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:generation_tokens_total{engine="0"} 7.0\n'


class Server:
    def __init__(self) -> None:
        self.metrics = STALLED
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pages.metrics.encode() if self.path == "/metrics" else b""
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def port(self) -> str:
        return str(self.http.server_address[1])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()
    made.thread.join(5.0)


class World:
    def __init__(self, port: str, logs: str = "") -> None:
        self.now = 0.0
        self.pod = a_pod("serve", node="node-1", grant=a_grant("GPU-0"), annotations={ANNOTATION: port})
        self.pod["status"] = {"phase": "Running", "podIP": "127.0.0.1"}
        self.faults: list[Fault] = []
        self.said: list[tuple[str, str]] = []
        pods = BoundPods(FakeKube(a_node("node-1")), LocalNode("node-1"), VENDORS)
        self.watch = ServerWatch(
            lambda: [self.pod], pods.parse, self.faults.append, self.report, logs, lambda: self.now
        )

    def report(self, pod: Any, sentence: str) -> None:
        self.said.append((pod["metadata"]["name"], sentence))


def test_a_server_that_says_it_is_well_while_no_token_moves_is_reported_once(server):
    world = World(server.port)
    for _ in range(8):
        world.watch.run_once()
        world.now += 10.0

    words = "its health page answers, requests run, and no token moved for 60 seconds"
    assert world.said == [("serve", f"the server reports {words}")]
    assert [(fault.card, fault.code, fault.signal) for fault in world.faults] == [("GPU-0", 0, Signal.SERVER)] * 2

    server.metrics = STALLED.replace("7.0", "9.0")
    world.watch.run_once()
    assert len(world.said) == 1


@pytest.mark.parametrize("port", ["0", "99999", "http://example.com", "-1", ""])
def test_what_is_no_port_is_never_asked(port):
    world = World(port)

    world.watch.run_once()

    assert (world.said, world.faults) == ([], [])


def test_errors_in_a_log_are_reported_from_the_first_look_on(tmp_path: Path):
    world = World("1", str(tmp_path))
    meta = world.pod["metadata"]
    folder = tmp_path / f"default_serve_{meta['uid']}" / "main"
    folder.mkdir(parents=True)
    log = folder / "0.log"
    log.write_text("2026-11-27T12:00:00Z stderr F CUDA error: unknown error\n")
    world.watch.run_once()
    assert world.said == []

    with log.open("a") as file:
        file.write("2026-11-27T12:00:01Z stderr F NCCL error in: x\n")
    world.watch.run_once()

    assert world.said == [("serve", "the server reports NCCL error")]
