"""Where no kubelet can run, the reason is said in one clause; where it can, it has a network and mounts of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import nodehost, reap
from sandbox.errors import NodeUnavailableError
from sandbox.processes import Inside, spawn


def test_a_user_who_is_not_root_gets_a_clear_error(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert nodehost.node_obstacle() == "user 1000 is not root"


def test_a_machine_without_cgroups_gets_a_clear_error(monkeypatch):
    monkeypatch.setattr(nodehost, "hierarchies", lambda: ())

    assert nodehost._no_cgroups() == "no cgroup hierarchy is mounted"


def test_a_hierarchy_that_takes_no_group_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(nodehost, "hierarchies", lambda: (tmp_path / "none",))

    assert nodehost._no_cgroups() == f"cannot create a control group in {tmp_path}/none (No such file or directory)"


def test_version_two_passes_its_controllers_on(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory pids\n")

    nodehost.enable_controllers(tmp_path)

    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +cpuset"  # the kernel adds them to the others


def test_the_kernels_no_to_a_bridge_is_shown(monkeypatch, tmp_path):
    refuses = tmp_path / "probe.py"
    refuses.write_text("import errno, sys; sys.exit(errno.EPERM)")
    monkeypatch.setattr(nodehost, "PROBE", refuses)

    assert nodehost._no_namespaces() == "the kernel refuses namespaces or a network bridge (Operation not permitted)"


def test_no_two_nodes_of_a_machine_have_one_network_and_a_stopped_one_gives_its_network_back():
    first, claim = nodehost.claim_network()
    second, other = nodehost.claim_network()
    with claim, other:
        assert first != second
    with nodehost.claim_network()[1] as again:
        assert again.getsockname() == f"\0kerf-sandbox-198.18.{first}".encode()


def test_a_machine_whose_networks_are_all_taken_is_named(monkeypatch):
    monkeypatch.setattr(nodehost, "NETWORKS", ())

    with pytest.raises(NodeUnavailableError, match="0 nodes of sandboxes run on this machine already"):
        nodehost.claim_network()


@pytest.mark.skipif(nodehost.node_obstacle() is not None, reason="no mount namespace can be made here")
def test_a_node_sees_its_own_directory_where_kubelets_look_and_the_machine_sees_no_mount(tmp_path):
    own, home = tmp_path / "own", tmp_path / "home"
    own.mkdir()
    (own / "mine").touch()
    script = (sys.executable, "-I", "-S", reap.__file__, str(own), "kerf-none", "kf-none", str(own), str(home))
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout.readline() == "ready\n"
        inside = Inside(mounts=Path(f"/proc/{keeper.pid}/ns/mnt"))
        spawn(("/bin/ls", str(home)), tmp_path / "log", {}, inside=inside).wait()
        assert (tmp_path / "log").read_text() == "mine\n"
        assert list(home.iterdir()) == []
        assert str(home) not in Path("/proc/self/mountinfo").read_text()
        keeper.stdin.close()
        assert keeper.wait(30) == 0
