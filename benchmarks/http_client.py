"""A keep-alive HTTP client for benchmarks, and the processes that they talk to."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import orjson


class Client:
    """Sends each request in one write."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: object) -> bytes:
        """POST JSON. Raises OSError if the server does not answer, ValueError for an error status."""
        return self.send(path, orjson.dumps(body), {})

    def send(self, path: str, data: bytes, headers: Mapping[str, str]) -> bytes:
        """POST bytes that are JSON."""
        if self._connection.sock is None:
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {answer[:200]!r}")
        return answer

    def get(self, path: str) -> bytes:
        """GET."""
        self._connection.request("GET", path)
        return self._connection.getresponse().read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def compile_all() -> None:
    """Compile what processes import, as the images do: otherwise a start counts the compiler, too."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "kerf", "scheduler"], check=True)


def spawn(module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """Start a Python module as a process."""
    return subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)])


def await_port(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + 120
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


def peak_mb(pid: int) -> int:
    """Peak resident memory of a process and of all that it started, in MB."""
    return sum(_peak_kb(each) for each in (pid, *descendants(pid))) // 1000


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all that it started have used."""
    return sum(_cpu_s(each) for each in (pid, *descendants(pid)))


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _cpu_s(pid: int) -> float:
    import os

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
