"""A real node on this machine: containerd and a kubelet, joined to a sandbox's control plane."""

import json
import platform
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import reap
from sandbox.commands import answers
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.images import ARCHITECTURES, PAUSE, SLEEPER, render_image
from sandbox.layout import free_ports
from sandbox.nodefiles import (
    DEVICE_PLUGINS,
    GATEWAY,
    NETMASK,
    NodeFiles,
    NodePrograms,
    render_containerd_config,
    render_kubelet_config,
    render_network,
)
from sandbox.nodehost import claim_node, clear_device_plugins
from sandbox.processes import Command
from sandbox.report import parse_cri_log

CTR_SECONDS = 60


class Node:
    """A running node. Leaving the context stops it and removes its processes, mounts, control groups and bridge.

    Its processes are ``containerd`` and ``kubelet`` in the control plane's supervisor. A device plugin finds the
    kubelet at `pod_resources_socket` and `device_plugin_dir`; containerd reads CDI specs from `cdi_dirs`. The node has
    the images `sandbox.images.PAUSE` and ``SLEEPER``; use ``imagePullPolicy: Never``.
    """

    def __init__(self, cp: ControlPlane, name: str) -> None:
        """Prepare the node. `start` starts it."""
        self.name = name
        run_id = secrets.token_hex(4)
        self._cp = cp
        self._files = NodeFiles(cp.run_dir / "node", run_id)
        self._footprint = reap.Footprint(self._files.root, self._files.group, self._files.bridge)
        self._closing = ExitStack()
        self.pod_resources_socket = self._files.pod_resources_socket
        self.device_plugin_dir = DEVICE_PLUGINS
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
        self._cp.restart("kubelet")

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
        lock = self._closing.enter_context(claim_node(f"run directory {self._cp.run_dir}"))
        clear_device_plugins()
        self._closing.callback(clear_device_plugins)
        self._write_files()
        self._keep(lock.fileno())
        reap.create_groups(self._files.group)
        reap.create_bridge(self._files.bridge, GATEWAY, NETMASK)
        self._start_containerd()
        self._start_kubelet(labels)
        self._cp.supervisor.await_until(self._is_ready, f"node {self.name} to become Ready", "kubelet")

    def _keep(self, lock: int) -> None:
        """Start the keeper, which cleans up and holds the claim even if this process is killed."""
        script = (sys.executable, "-I", "-S", str(Path(reap.__file__)))
        footprint = (str(self._footprint.run_dir), self._footprint.group, self._footprint.bridge)
        keeper = subprocess.Popen(
            (*script, *footprint), stdin=subprocess.PIPE, pass_fds=(lock,), start_new_session=True
        )

        def relieve() -> None:
            reap.remove(self._footprint)
            keeper.communicate(b"done")

        self._closing.callback(relieve)

    def _write_files(self) -> None:
        files, pki = self._files, self._cp.layout.pki
        for directory in (files.root, files.cdi, files.cni, files.kubelet_root):
            directory.mkdir(parents=True, exist_ok=True)
        identity = self._cp.authority.issue(f"system:node:{self.name}", ("system:nodes",), (GATEWAY, self.name))
        identity.write(pki, "node")
        parts = self._cp.parts
        programs = NodePrograms(parts["containerd-shim-runc-v2"], parts["runc"], self._gather_plugins())
        port, healthz_port = free_ports(2)
        self._healthz = f"http://127.0.0.1:{healthz_port}/healthz"
        (files.root / "containerd.toml").write_text(render_containerd_config(files, programs))
        (files.root / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (files.cni / "kerf.conflist").write_text(json.dumps(render_network(files)))
        (files.root / "kubelet.json").write_text(json.dumps(render_kubelet_config(files, pki, port, healthz_port)))

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
        self._supervise("containerd", argv, self._containerd_serves)
        sleeper = self._cp.parts["sleeper"].read_bytes()
        for image in (PAUSE, SLEEPER):
            self.import_image(image, {"/sleeper": sleeper}, ("/sleeper",))

    def _start_kubelet(self, labels: Mapping[str, str]) -> None:
        flags = {
            "config": self._files.root / "kubelet.json",
            "kubeconfig": self._cp.kubeconfig_for(f"system:node:{self.name}", ("system:nodes",)),
            "root-dir": self._files.kubelet_root,
            "hostname-override": self.name,
            "node-ip": GATEWAY,
            "node-labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        }
        argv = (str(self._cp.parts["kubelet"]), *(f"--{name}={value}" for name, value in flags.items()))
        self._supervise("kubelet", argv, lambda: answers(self._healthz) and self.pod_resources_socket.exists())

    def _supervise(self, name: str, argv: tuple[str, ...], ready: Callable[[], bool]) -> None:
        group_file = reap.process_group_file(self._files.group)
        supervisor = self._cp.supervisor
        supervisor.launch(Command(name, argv, ready=ready, group_file=group_file))
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
