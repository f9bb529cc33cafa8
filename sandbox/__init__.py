"""A real Kubernetes on loopback, for demo and cluster tests: built from source, run without a container engine.

Belongs here: the parts and their build, the processes, a control plane, real nodes, fake nodes, images. Never:
anything that runs in a user's cluster. Only `kerfctl` and the tests may import this package. Everything listens on
127.0.0.1 or on a node's own bridge, and nothing outlives the process that started it.

    with run_directory() as run_dir:
        parts = ensure((*CONTROL_PLANE, *NODE), progress=print)
        with ControlPlane.start(run_dir, parts) as cp, Node.start(cp) as node:
            cp.start_scheduler(Extender("http://127.0.0.1:9999"))
"""

from kerf.http.pki import Authority, KeyPair
from sandbox.api import Api, ApiError
from sandbox.audit import Call, Write
from sandbox.build import Progress, ensure, estimate, locate, module_dir
from sandbox.controlplane import ControlPlane
from sandbox.documents import Webhook
from sandbox.errors import NodeUnavailableError, SandboxError
from sandbox.fakenodes import FakeNode
from sandbox.images import SLEEPER
from sandbox.kueue import Kueue, install_job_kinds, start_kueue
from sandbox.layout import free_ports, run_directory
from sandbox.multikueue import join_workers
from sandbox.node import Node, start_nodes
from sandbox.nodehost import node_obstacle
from sandbox.parts import CONTROL_PLANE, NODE
from sandbox.processes import Command, Supervisor, await_until
from sandbox.report import Report, parse_report
from sandbox.scheduling import Extender, render_scheduler_configuration

__all__ = [
    "CONTROL_PLANE",
    "NODE",
    "SLEEPER",
    "Api",
    "ApiError",
    "Authority",
    "Call",
    "Command",
    "ControlPlane",
    "Extender",
    "FakeNode",
    "KeyPair",
    "Kueue",
    "Node",
    "NodeUnavailableError",
    "Progress",
    "Report",
    "SandboxError",
    "Supervisor",
    "Webhook",
    "Write",
    "await_until",
    "ensure",
    "estimate",
    "free_ports",
    "install_job_kinds",
    "join_workers",
    "locate",
    "module_dir",
    "node_obstacle",
    "parse_report",
    "render_scheduler_configuration",
    "run_directory",
    "start_kueue",
    "start_nodes",
]
