"""A node keeps to its own directory and to loopback."""

import socket
import subprocess
import sys
import tomllib
from pathlib import Path

from sandbox.layout import BLOCK, free_ports
from sandbox.nodefiles import (
    NodeFiles,
    NodePrograms,
    render_containerd_config,
    render_kubelet_config,
    render_network,
)

FILES = NodeFiles(Path("/run dir/'quoted'"), "0a1b2c3d", 78)


def test_containerd_reads_and_writes_in_the_nodes_directory_alone():
    programs = NodePrograms(shim=Path("/p/shim"), runc=Path("/p/runc"), cni=Path("/p/cni"))
    config = tomllib.loads(render_containerd_config(FILES, programs))

    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert config["root"] == "/run dir/'quoted'/containerd"
    assert config["grpc"]["address"] == "/run dir/'quoted'/containerd.sock"
    assert runtime["cdi_spec_dirs"] == ["/run dir/'quoted'/cdi"]
    assert runtime["cni"] == {"bin_dirs": ["/p/cni"], "conf_dir": "/run dir/'quoted'/cni"}
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/p/runc"


def test_the_kubelet_writes_in_the_nodes_directory_and_its_own_control_group():
    config = render_kubelet_config(FILES, Path("/pki/ca.crt"), 1, 2)

    assert config["podLogsDir"] == "/run dir/'quoted'/pods"
    assert config["tlsPrivateKeyFile"] == "/run dir/'quoted'/serving.key"
    assert config["address"] == "198.18.78.1"
    assert config["cgroupRoot"] == "/kerf-0a1b2c3d"


def test_the_network_needs_no_iptables_and_no_default_route():
    (bridge,) = render_network(FILES)["plugins"]

    assert bridge["bridge"] == "kf0a1b2c3d"
    assert len(bridge["bridge"]) <= 15
    assert bridge["ipam"]["ranges"] == [[{"subnet": "198.18.78.0/24", "gateway": "198.18.78.1"}]]
    assert (bridge["ipMasq"], bridge["isGateway"]) == (False, False)


def test_no_free_port_is_given_twice_also_not_by_another_process():
    """A server may take its port minutes after it was given."""
    program = "from sandbox.layout import free_ports; print(*free_ports(40), flush=True); input()"
    other = subprocess.Popen((sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    theirs = other.stdout.readline().split()

    mine = [*free_ports(50), *free_ports(50)]

    other.communicate("\n")
    assert len({*mine, *map(int, theirs)}) == 140


def test_a_port_on_which_somebody_listens_is_not_given():
    (first,) = free_ports(1)
    with socket.create_server(("127.0.0.1", first + 1)):
        assert first + 1 not in free_ports(3 * BLOCK)
