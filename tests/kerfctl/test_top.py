"""`kerf top`: the nodes' answers as a table, as JSON, and one line where no monitor answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerfctl import cluster, top
from kerfctl.main import main

PLUGIN = {"app.kubernetes.io/name": "kerf", "app.kubernetes.io/component": "deviceplugin"}
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


class TestCluster:
    """Monitors found through the API server."""

    @pytest.fixture
    def kube(self, monkeypatch) -> FakeKube:
        found = FakeKube()
        for i in (1, 2):
            pod = a_pod(f"plugin-{i}", namespace="kerf-system", labels=PLUGIN, node=f"node-{i}")
            pod["spec"]["containers"] = [{"name": "p", "ports": [{"name": "metrics", "containerPort": 9394}]}]
            found.put(pod)
        rows = [{**ROW, "pod": "chat"}, {**ROW, "namespace": "team", "pod": "big", "used_mib": 7000}]
        for i, row in enumerate(rows, 1):
            answer = {"v": 1, "containers": [row], "overuse": []}
            found._objects[f"/api/v1/namespaces/kerf-system/pods/plugin-{i}:9394/proxy/top"] = answer
        monkeypatch.setattr(cluster, "connect_to", lambda args: found)
        monkeypatch.setenv("COLUMNS", "250")
        return found

    def shown(self, capsys, *words: str) -> list[str]:
        assert main(["top", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [
            word for line in lines for word in line.replace("│", " ").split() if word in ("default/chat", "team/big")
        ]

    def a_plugin(self, namespace: str, node: str, phase: str = "Running") -> dict:
        pod = a_pod("other", namespace=namespace, labels=PLUGIN, node=node, phase=phase)
        pod["spec"]["containers"] = [{"name": "p", "ports": [{"name": "metrics", "containerPort": 9394}]}]
        return pod

    def test_pods_of_other_namespaces_with_the_labels_are_named_and_not_asked(self, kube, capsys) -> None:
        kube.put(self.a_plugin("team", "node-3"))
        answer = {"v": 1, "containers": [{**ROW, "pod": "forged"}], "overuse": []}
        kube._objects["/api/v1/namespaces/team/pods/other:9394/proxy/top"] = answer

        assert main(["top"]) == 0
        said = capsys.readouterr()
        assert "forged" not in said.out
        assert "in team, too; only those of kerf-system are asked" in said.err

    def test_where_no_namespace_is_the_usual_one_nothing_is_asked(self, capsys, monkeypatch) -> None:
        kube = FakeKube(self.a_plugin("team", "node-3"), self.a_plugin("gpu", "node-4"))
        monkeypatch.setattr(cluster, "connect_to", lambda args: kube)

        assert main(["top"]) == 1
        assert "are in the namespaces gpu, team: only one of them can be Kerf's" in capsys.readouterr().err

    def test_a_plugin_that_has_ended_is_no_silent_node(self, kube, capsys) -> None:
        kube.put(self.a_plugin("kerf-system", "node-1", "Failed"))

        assert main(["top"]) == 0
        assert capsys.readouterr().err == ""

    def test_every_node_is_found_and_sorted(self, kube, capsys) -> None:
        assert self.shown(capsys) == ["default/chat", "team/big"]
        assert self.shown(capsys, "--sort", "used") == ["team/big", "default/chat"]
        assert self.shown(capsys, "-n", "team") == ["team/big"]
        assert self.shown(capsys, "--node", "node-1") == ["default/chat"]

    def test_a_tenants_pods_are_those_of_its_namespaces(self, kube, capsys) -> None:
        spec = {"namespaces": ["team"], "classes": []}
        item = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "red"}, "spec": spec}
        kube._objects[f"{TENANT_QUOTAS}/red"] = item

        assert self.shown(capsys, "--tenant", "red") == ["team/big"]
        assert main(["top", "--tenant", "blue"]) == 1
        assert "no TenantQuota of this name" in capsys.readouterr().err

    def test_a_node_without_a_monitor_is_an_error(self, kube, capsys) -> None:
        assert main(["top", "--node", "node-9"]) == 1
        assert "--node node-9: no device plugin of Kerf runs" in capsys.readouterr().err

    def test_the_estimate_of_a_sized_pod_is_beside_its_use(self, kube, capsys) -> None:
        sized = json.dumps({"container": "main", "limits": {"nvidia.com/gpumem": 7777}})
        kube.put(a_pod("chat", annotations={"kerf.dev/sized": sized}, node="node-1"))

        assert main(["top"]) == 0
        out = capsys.readouterr().out
        assert "estimate" in out
        assert "7,777" in out

    def test_a_node_that_does_not_answer_is_named_and_the_others_are_shown(self, kube, capsys) -> None:
        del kube._objects["/api/v1/namespaces/kerf-system/pods/plugin-2:9394/proxy/top"]

        assert main(["top"]) == 1
        said = capsys.readouterr()
        assert "default/chat" in said.out
        assert "node node-2: its monitor does not answer" in said.err

    def test_json_is_by_node(self, kube, capsys) -> None:
        assert main(["top", "--json", "-n", "team"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {node: len(top["containers"]) for node, top in found.items()} == {"node-1": 0, "node-2": 1}

    def test_a_cluster_without_kerf_says_so(self, monkeypatch, capsys) -> None:
        monkeypatch.setattr(cluster, "connect_to", lambda args: FakeKube())

        assert main(["top"]) == 1
        assert "name monitors by URL instead" in capsys.readouterr().err

    @pytest.mark.parametrize("seconds", ["0", "nan", "inf", "1e12"])
    def test_a_watch_is_at_least_a_second_and_at_most_a_day(self, kube, seconds: str, capsys) -> None:
        assert main(["top", "--watch", seconds]) == 1
        assert "write seconds from 1 to 86,400" in capsys.readouterr().err

    def test_a_watch_looks_again(self, kube, monkeypatch, capsys) -> None:
        looks = []

        def interrupt(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) >= 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(top, "time", SimpleNamespace(sleep=interrupt))
        assert main(["top", "--watch", "5"]) == 130
        assert capsys.readouterr().out.count("default/chat") == 2
