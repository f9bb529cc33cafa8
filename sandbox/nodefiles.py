"""The configuration of one real node: kubelet, containerd and its network. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.images import PAUSE

NETMASK = "255.255.255.0"
KUBELET_HOME = Path("/var/lib/kubelet")
"""The kubelet serves device plugins below it, whatever its root directory. Each node sees its own directory here."""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """The files of one node below `root`. `run_id` names its control group and its bridge, `network` its addresses.

    Socket paths must stay under 108 bytes, so `root` must be short.
    """

    root: Path
    run_id: str
    network: int
    """Pods' addresses are 198.18.NETWORK.0/24: from the range reserved for benchmarks, which is not routed."""

    @property
    def subnet(self) -> str:
        """The addresses of the node's pods."""
        return f"198.18.{self.network}.0/24"

    @property
    def address(self) -> str:
        """The node's own address, which its pods reach, too."""
        return f"198.18.{self.network}.1"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's own directory, with the pods' volumes."""
        return self.root / "kubelet"

    @property
    def device_plugins(self) -> Path:
        """Where device plugins and the kubelet show each other their sockets."""
        return self.kubelet_root / "device-plugins"

    @property
    def plugins_registry(self) -> Path:
        """Where drivers show the kubelet their sockets."""
        return self.kubelet_root / "plugins_registry"

    @property
    def plugins(self) -> Path:
        """Where drivers have sockets of their own."""
        return self.kubelet_root / "plugins"

    @property
    def pod_resources_socket(self) -> Path:
        """The kubelet's PodResources API."""
        return self.kubelet_root / "pod-resources" / "kubelet.sock"

    @property
    def containerd_socket(self) -> Path:
        """The API of containerd, the CRI included."""
        return self.root / "containerd.sock"

    @property
    def cdi(self) -> Path:
        """The directory from which containerd reads CDI specs."""
        return self.root / "cdi"

    @property
    def cni(self) -> Path:
        """The network configuration."""
        return self.root / "cni"

    @property
    def pod_logs(self) -> Path:
        """The containers' output."""
        return self.root / "pods"

    @property
    def bridge(self) -> str:
        """The network interface; at most 15 characters."""
        return f"kf{self.run_id}"

    @property
    def group(self) -> str:
        """The control group under which every pod and daemon of the node runs."""
        return f"kerf-{self.run_id}"


@dataclass(frozen=True, slots=True)
class NodePrograms:
    """The programs that containerd starts."""

    shim: Path
    runc: Path
    cni: Path
    """The directory of the network plugins."""


def render_containerd_config(files: NodeFiles, programs: NodePrograms) -> str:
    """The TOML of containerd, version 3. Every path is in the node's own directory."""
    quoted = {
        "root": files.root / "containerd",
        "state": files.root / "containerd-state",
        "socket": files.containerd_socket,
        "bin": programs.cni,
        "conf": files.cni,
        "cdi": files.cdi,
        "shim": programs.shim,
        "runc": programs.runc,
        "runc_root": files.root / "runc",
        "pause": PAUSE,
    }
    return CONTAINERD_CONFIG.format_map({name: json.dumps(str(value)) for name, value in quoted.items()})


# A JSON string is a TOML string. Without CAP_SYS_RESOURCE (on a CI machine) runc must not lower an OOM score.
CONTAINERD_CONFIG = """\
version = 3
root = {root}
state = {state}
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.nri.v1.nri']

[grpc]
address = {socket}

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = {pause}

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
enable_cdi = true
cdi_spec_dirs = [{cdi}]

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{bin}]
conf_dir = {conf}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = {shim}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {runc}
Root = {runc_root}
"""


def render_network(files: NodeFiles) -> dict[str, Any]:
    """A CNI network: the node's bridge, addresses from a file, no masquerading and so no iptables."""
    addresses = {
        "type": "host-local",
        "dataDir": str(files.root / "addresses"),
        "ranges": [[{"subnet": files.subnet, "gateway": files.address}]],
    }
    bridge = {"type": "bridge", "bridge": files.bridge, "isGateway": False, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "kerf", "plugins": [bridge]}


def render_kubelet_config(files: NodeFiles, ca: Path, port: int, healthz_port: int) -> dict[str, Any]:
    """A KubeletConfiguration that runs on cgroup version 1 or 2, with swap or without, and never evicts."""
    off = {"enabled": False}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": files.address,
        "port": port,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": healthz_port,
        "tlsCertFile": str(files.root / "serving.crt"),
        "tlsPrivateKeyFile": str(files.root / "serving.key"),
        "authentication": {"anonymous": off, "webhook": off, "x509": {"clientCAFile": str(ca)}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{files.containerd_socket}",
        "podLogsDir": str(files.pod_logs),
        "volumePluginDir": str(files.root / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{files.group}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": str(files.root / "resolv.conf"),
        "clusterDNS": ["10.0.0.10"],
        "clusterDomain": "cluster.local",
        "maxPods": 250,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "1s",  # only changes are written; new devices appear within a second
        "syncFrequency": "5s",  # a claim that the node may not see yet is asked for again then, not after 60 to 90 s
        "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        "registryPullQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 0,
        "enableProfilingHandler": False,
    }
