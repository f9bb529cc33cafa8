"""A real node on this machine: containerd and a kubelet, joined to a sandbox's control plane."""

import json
import platform
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import reap
from sandbox.commands import answers
from sandbox.controlplane import ControlPlane
from sandbox.errors import NodeUnavailableError, SandboxError
from sandbox.images import ARCHITECTURES, PAUSE, SLEEPER, render_image
from sandbox.layout import free_ports
from sandbox.nodefiles import (
    KUBELET_HOME,
    NETMASK,
    NodeFiles,
    NodePrograms,
    render_containerd_config,
    render_kubelet_config,
    render_network,
)
from sandbox.nodehost import claim_network, node_obstacle
from sandbox.processes import Command, Inside
from sandbox.report import parse_cri_log

CTR_SECONDS = 60
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,30}[a-z0-9])?", re.ASCII)
"""A node's name is in the paths of sockets, which are short."""
MOST_NODES = 8
"""Real nodes of one control plane: each is a kubelet and a containerd."""


def check_name(name: object) -> None:
    """Raise SandboxError if no node here can have this name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SandboxError(f"node {name!r}: name it by 1 to 32 lower-case letters, digits, dashes and dots")


@contextmanager
def start_nodes(cp: ControlPlane, names: Sequence[str]) -> Iterator[tuple["Node", ...]]:
    """Start nodes side by side. Inside the context all of them are Ready; leaving it stops them."""
    with ExitStack() as running:
        with ThreadPoolExecutor(len(names)) as pool:
            starts = [pool.submit(Node.start, cp, name) for name in names]
        for start in starts:
            if not start.exception():
                running.enter_context(start.result())
        yield tuple(start.result() for start in starts)


class Node:
    """A running node. Leaving the context stops it and removes its processes, mounts, control groups and bridge.

    A control plane may have several: each has a mount namespace of its own, in which its directory of the kubelet is at
    `KUBELET_HOME`, and a network of its own, which reaches no other node's pods. Its processes in the control plane's
    supervisor are named `containerd` and `kubelet`. A device plugin finds the kubelet at `pod_resources_socket` and
    `device_plugin_dir`; containerd reads CDI specs from `cdi_dirs`. The node has the images `sandbox.images.PAUSE` and
    ``SLEEPER``; use ``imagePullPolicy: Never``.
    """

    def __init__(self, cp: ControlPlane, name: str) -> None:
        """Prepare the node. `start` starts it. Raises NodeUnavailableError."""
        if reason := node_obstacle():
            raise NodeUnavailableError(f"a real node cannot run here: {reason}")
        check_name(name)
        self.name = name
        self.kubelet, self.containerd = f"kubelet-{name}", f"containerd-{name}"
        self._cp = cp
        network, self._claim = claim_network()
        self._files = NodeFiles(cp.run_dir / "nodes" / name, secrets.token_hex(4), network)
        self._closing = ExitStack()
        self._closing.callback(self._claim.close)
        self.address = self._files.address
        self.pod_logs = self._files.pod_logs
        self.pod_resources_socket = self._files.pod_resources_socket
        self.device_plugin_dir = self._files.device_plugins
        self.plugins_registry_dir = self._files.plugins_registry
        self.plugins_dir = self._files.plugins
        self.cdi_dirs = (self._files.cdi,)

    @classmethod
    def start(cls, cp: ControlPlane, name: str = "node-1", labels: Mapping[str, str] | None = None) -> Self:
        """Start the node and wait until it is Ready.

        Raises NodeUnavailableError if a kubelet cannot run here (kwok nodes can), SandboxError if a part fails.
        """
        node = cls(cp, name)
        try:
            node._start(dict(labels or {}))
        except BaseException:
            node.stop()
            raise
        return node

    def stop(self) -> None:
        """Stop the kubelet, containerd and every container, and clean up. A second call is a no-op."""
        self._closing.close()

    def restart_kubelet(self) -> None:
        """Restart the kubelet. Containers keep running."""
        self._cp.restart(self.kubelet)

    def import_image(self, name: str, files: Mapping[str, bytes], entrypoint: Sequence[str]) -> None:
        """Make an image of files (by path in the container) and give it to containerd."""
        architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
        with tempfile.NamedTemporaryFile(dir=self._files.root, suffix=".tar") as archive:
            archive.write(render_image(name, files, entrypoint=entrypoint, architecture=architecture))
            archive.flush()
            self.load_image(Path(archive.name))

    def load_image(self, archive: Path) -> None:
        """Give an OCI archive to containerd."""
        self._ctr("images", "import", str(archive))

    def output(self, namespace: str, pod: str, container: str) -> str:
        """The output of a container's latest run so far; empty before it starts."""
        uid = self._pod(namespace, pod)["metadata"]["uid"]
        runs = (self._files.pod_logs / f"{namespace}_{pod}_{uid}" / container).glob("*.log")
        latest = max(runs, key=lambda log: int(log.stem), default=None)
        return parse_cri_log(latest.read_text()) if latest else ""

    def execute(self, namespace: str, pod: str, container: str, *argv: str) -> str:
        """Run a program inside a running container. Returns its output. The sleeper image has only ``/sleeper``."""
        status = self._pod(namespace, pod)["status"]
        statuses = (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
        ids = {each["name"]: each.get("containerID", "").removeprefix("containerd://") for each in statuses}
        if not ids.get(container):
            raise SandboxError(f"pod {namespace}/{pod} has no running container {container!r}; it has {sorted(ids)}")
        return self._ctr("tasks", "exec", "--exec-id", secrets.token_hex(8), ids[container], *argv)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, labels: Mapping[str, str]) -> None:
        self._write_files()
        self._keep()
        reap.create_groups(self._files.group)
        reap.create_bridge(self._files.bridge, self.address, NETMASK)
        self._start_containerd()
        self._start_kubelet(labels)
        self._cp.supervisor.await_until(self._is_ready, f"node {self.name} to become Ready", self.kubelet)

    def _keep(self) -> None:
        """Start the keeper, which has the mount namespace, and cleans up even if this process is killed."""
        files = self._files
        script = (sys.executable, "-I", "-S", str(Path(reap.__file__)))
        footprint = (str(files.root), files.group, files.bridge, str(files.kubelet_root), str(KUBELET_HOME))
        keeper = subprocess.Popen(
            (*script, *footprint),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self._claim.fileno(),),
            start_new_session=True,
        )
        self._closing.callback(keeper.communicate)  # this ends its input, and waits for its end
        said = keeper.stdout.readline().decode().strip() if keeper.stdout else ""
        if said != "ready":
            raise NodeUnavailableError(f"a real node cannot run here: {said}")
        self._inside = Inside(reap.process_group_file(files.group), Path(f"/proc/{keeper.pid}/ns/mnt"))

    def _write_files(self) -> None:
        files, ca = self._files, self._cp.ca
        for directory in (files.root, files.cdi, files.cni, files.kubelet_root):
            directory.mkdir(parents=True, exist_ok=True)
        identity = self._cp.authority.issue(f"system:node:{self.name}", ("system:nodes",), (self.address, self.name))
        identity.write(files.root, "serving")
        parts = self._cp.parts
        programs = NodePrograms(parts["containerd-shim-runc-v2"], parts["runc"], self._gather_plugins())
        port, healthz_port = free_ports(2)
        self._healthz = f"http://127.0.0.1:{healthz_port}/healthz"
        (files.root / "containerd.toml").write_text(render_containerd_config(files, programs))
        (files.root / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (files.cni / "kerf.conflist").write_text(json.dumps(render_network(files)))
        (files.root / "kubelet.json").write_text(json.dumps(render_kubelet_config(files, ca, port, healthz_port)))

    def _gather_plugins(self) -> Path:
        """One directory with all network plugins."""
        directory = self._files.root / "cni-bin"
        directory.mkdir(exist_ok=True)
        for plugin in ("bridge", "loopback", "host-local"):
            (directory / plugin).unlink(missing_ok=True)
            (directory / plugin).symlink_to(self._cp.parts[plugin])
        return directory

    def _start_containerd(self) -> None:
        argv = (str(self._cp.parts["containerd"]), "--config", str(self._files.root / "containerd.toml"))
        self._supervise(self.containerd, argv, self._containerd_serves)
        sleeper = self._cp.parts["sleeper"].read_bytes()
        for image in (PAUSE, SLEEPER):
            self.import_image(image, {"/sleeper": sleeper}, ("/sleeper",))

    def _start_kubelet(self, labels: Mapping[str, str]) -> None:
        flags = {
            "config": self._files.root / "kubelet.json",
            "kubeconfig": self._cp.kubeconfig_for(f"system:node:{self.name}", ("system:nodes",)),
            "root-dir": self._files.kubelet_root,
            "hostname-override": self.name,
            "node-ip": self.address,
            "node-labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        }
        argv = (str(self._cp.parts["kubelet"]), *(f"--{name}={value}" for name, value in flags.items()))
        self._supervise(self.kubelet, argv, lambda: answers(self._healthz) and self.pod_resources_socket.exists())

    def _supervise(self, name: str, argv: tuple[str, ...], ready: Callable[[], bool]) -> None:
        supervisor = self._cp.supervisor
        supervisor.launch(Command(name, argv, ready=ready, inside=self._inside))
        self._closing.callback(supervisor.stop, name)
        supervisor.await_ready(name)

    def _containerd_serves(self) -> bool:
        try:
            self._ctr("version")
        except SandboxError:
            return False
        return True

    def _is_ready(self) -> bool:
        return self.name in self._cp.ready_nodes()

    def _pod(self, namespace: str, pod: str) -> dict[str, Any]:
        return self._cp.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")

    def _ctr(self, *arguments: str) -> str:
        ctr = (str(self._cp.parts["ctr"]), "--address", str(self._files.containerd_socket), "--namespace", "k8s.io")
        done = subprocess.run((*ctr, *arguments), capture_output=True, text=True, timeout=CTR_SECONDS, check=False)
        if done.returncode:
            raise SandboxError(f"ctr {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout
