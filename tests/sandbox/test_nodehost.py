"""Where no kubelet can run, the reason is said in one clause; who has the machine's kubelet directory is said, too."""

import socket

import pytest

from sandbox import nodehost
from sandbox.errors import NodeUnavailableError


@pytest.fixture
def able(monkeypatch, tmp_path):
    """A machine that can run a kubelet."""
    for check in ("_not_linux", "_not_root", "_no_kmsg", "_no_cgroups", "_no_namespaces"):
        monkeypatch.setattr(nodehost, check, lambda: None)
    monkeypatch.setattr(nodehost, "DEVICE_PLUGINS", tmp_path / "device-plugins")
    monkeypatch.setattr(nodehost, "LOCK", tmp_path / "kerf-sandbox.lock")
    (tmp_path / "device-plugins").mkdir()
    return tmp_path


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


def test_the_claim_is_held_by_one_and_names_its_holder(able):
    with (
        nodehost.claim_node("run directory /one"),
        pytest.raises(NodeUnavailableError, match=r"another sandbox has it \(run directory /one\)"),
    ):
        nodehost.claim_node("run directory /two")

    nodehost.claim_node("run directory /two").close()


def test_a_kubelet_of_the_machines_own_is_left_alone(able):
    with socket.socket(socket.AF_UNIX) as kubelet:
        kubelet.bind(str(able / "device-plugins" / "kubelet.sock"))
        kubelet.listen()

        with pytest.raises(NodeUnavailableError, match="this machine already runs a kubelet of its own"):
            nodehost.claim_node("run directory /one")


def test_a_dead_kubelets_devices_are_forgotten_and_nothing_else(able):
    plugins = able / "device-plugins"
    (plugins / "kubelet_internal_checkpoint").write_text("{}")
    (plugins / "DEPRECATION").write_text("kept")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(plugins / "kubelet.sock"))

    nodehost.clear_device_plugins()

    assert [entry.name for entry in plugins.iterdir()] == ["DEPRECATION"]
