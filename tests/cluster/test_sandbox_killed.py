"""Nothing outlives the process that started a sandbox, even if that process is killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox import await_until, node_obstacle
from sandbox.reap import hierarchies

pytestmark = [pytest.mark.cluster, pytest.mark.starts_a_node]


@pytest.fixture
def sandbox(parts, nodes: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sandbox with real nodes in a process of its own, and its run directory."""
    if reason := node_obstacle():
        pytest.skip(f"no real node: {reason}")
    command = (sys.executable, "-m", "sandbox", "up", "--nodes", str(nodes))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        told = next(line for line in process.stdout if "KUBECONFIG=" in line)
        run_dir = Path(re.search(r"KUBECONFIG=(.*)/config/", told)[1])
        try:
            yield process, run_dir
        finally:
            process.kill()
    shutil.rmtree(run_dir, ignore_errors=True)


def _processes_of(run_dir: Path) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone meanwhile
        if str(run_dir) in text:
            found.append(text)
    return found


def _mounts_of(run_dir: Path) -> list[str]:
    """The mounts below a directory, or of a directory below it, in every mount namespace."""
    found = set()
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # gone meanwhile
            found.update(line for line in mounts.read_text().splitlines() if f" {run_dir}/" in line)
    return sorted(found)


@pytest.mark.parametrize(("nodes", "signum"), [(1, signal.SIGTERM), (2, signal.SIGKILL)], ids=["terminated", "killed"])
def test_nothing_is_left_of_a_sandbox(sandbox, nodes, signum):
    process, run_dir = sandbox
    networks = [json.loads(file.read_text()) for file in run_dir.glob("nodes/*/cni/kerf.conflist")]
    bridges = [Path("/sys/class/net") / network["plugins"][0]["bridge"] for network in networks]
    groups = [root / bridge.name.replace("kf", "kerf-", 1) for root in hierarchies() for bridge in bridges]
    assert [bridge.exists() for bridge in bridges] == [True] * nodes
    assert all(group.is_dir() for group in groups)
    assert sum("/kubelet --config=" in command for command in _processes_of(run_dir)) == nodes
    assert _mounts_of(run_dir)

    process.send_signal(signum)
    process.wait()

    await_until(lambda: not _processes_of(run_dir), f"the end of every process of {run_dir}")
    assert _mounts_of(run_dir) == []
    assert [bridge for bridge in bridges if bridge.exists()] == []
    assert [group for group in groups if group.exists()] == []
