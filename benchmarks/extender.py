"""`make bench-extender`: the real extender process over real HTTP, 8 cards a node, with a fleet in use.

For each size, start the extender and measure the time to its first answer. Then schedule pods as kube-scheduler does:
filter with every node's name, prioritize the rest, bind to the best. So a few nodes change between any two calls.
The last line is one JSON object: {"runs": [{"nodes", "pods", "p50_ms", "p99_ms", "rss_mb", "start_s"}]}.
"""

import argparse
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from benchmarks.fake_api_server import SIZES, pending

SHAPES = len(SIZES)


def main(argv: list[str] | None = None) -> int:
    """Measure every size and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000x8000,5000x40000", help="NODESxPODS, comma-separated")
    parser.add_argument("--calls", type=int, default=500, help="scheduling cycles a size")
    args = parser.parse_args(argv)
    runs = []
    for size in args.sizes.split(","):
        nodes, pods = (int(part) for part in size.split("x"))
        runs.append(measure(nodes, pods, args.calls))
        print(json.dumps(runs[-1]), flush=True)
    print(json.dumps({"runs": runs}))
    return 0


def measure(nodes: int, pods: int, calls: int) -> dict[str, float]:
    """Measure one size."""
    api_port, port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        api = spawn("benchmarks.fake_api_server", "--port", api_port, "--nodes", nodes, "--pods", pods)
        started: list[subprocess.Popen[bytes]] = [api]
        try:
            await_port(api_port)
            kubeconfig = write_kubeconfig(Path(folder), api_port)
            begin = time.perf_counter()
            extender = spawn(
                "scheduler", "--kubeconfig", kubeconfig, "--bind", f"127.0.0.1:{port}", "--log-level", "error"
            )
            started.append(extender)
            client = Client(port)
            names = [f"node-{i:05}" for i in range(nodes)]
            await_first_answer(client, names)
            start_s = time.perf_counter() - begin
            times = cycles(client, names, calls)
            rss = rss_mb(extender.pid)
        finally:
            for process in started:
                process.kill()
                process.wait()
    times.sort()
    return {
        "nodes": nodes,
        "pods": pods,
        "p50_ms": round(times[len(times) // 2] * 1000, 2),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 2),
        "rss_mb": rss,
        "start_s": round(start_s, 2),
    }


def cycles(client: "Client", names: list[str], calls: int) -> list[float]:
    """Seconds of filter + prioritize for each pod, without the bind."""
    times = []
    for number in range(calls + 2 * SHAPES):
        pod = pending(number)
        begin = time.perf_counter()
        fits = orjson.loads(client.post("/filter", {"Pod": pod, "NodeNames": names}))["NodeNames"]
        scores = orjson.loads(client.post("/prioritize", {"Pod": pod, "NodeNames": fits}))
        if number >= 2 * SHAPES:  # the first pods of each class warm its lane, as in any running scheduler
            times.append(time.perf_counter() - begin)
        best = max(scores, key=lambda entry: entry["Score"])["Host"]
        meta = pod["metadata"]
        bind = {"PodNamespace": "default", "PodName": meta["name"], "PodUID": meta["uid"], "Node": best}
        answer = orjson.loads(client.post("/bind", bind))
        if answer["Error"]:
            raise SystemExit(f"bind failed: {answer['Error']}")
    return times


class Client:
    """A keep-alive HTTP client that sends each request in one write."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: object) -> bytes:
        """POST JSON. Raises OSError if the server does not answer, ValueError for an error status."""
        data = orjson.dumps(body)
        if self._connection.sock is None:
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request("POST", path, data, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {answer[:200]!r}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def await_first_answer(client: Client, names: list[str]) -> None:
    """Wait until filter answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            client.post("/filter", {"Pod": pending(0), "NodeNames": names})
            return
        except (OSError, ValueError, http.client.HTTPException):
            client.close()
            time.sleep(0.02)
    raise SystemExit("the extender did not answer within 120 s")


def spawn(module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """Start a Python module as a process."""
    return subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)])


def await_port(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"port {port} accepts no connection")


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_kubeconfig(folder: Path, port: int) -> Path:
    """A kubeconfig for plain HTTP."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


def rss_mb(pid: int) -> int:
    """Peak resident memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1000


if __name__ == "__main__":
    sys.exit(main())
