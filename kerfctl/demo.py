"""`kerf demo`: a real control plane and real nodes on loopback, Kerf's daemons, the pods of `examples/`, a table."""

import argparse
import copy
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerf.values.vendor import Vendor
from kerf.views.lines import PodLine, RefusedLine, json_of, slice_lines
from kerf.wire.json import Json, at, items_at
from kerfctl.errors import CliError

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

ABOUT = """Bring up etcd, kube-apiserver, kube-scheduler, kubelet and containerd on loopback with simulated cards, run
Kerf's webhook, scheduler extender and device plugin against them, create the example pods, and show who holds what.
The first run builds the control plane from source; later ones start in under a minute."""
SETTLE_SECONDS = 120.0
DECISION_SECONDS = 10.0

FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Files:
    """What a demo shows."""

    pods: str
    nodes: str
    fleet: str


PLAIN = Files("examples/pods", "examples/nodes/one-node.yaml", "examples/fleets/demo.yaml")
MIXED = Files("examples/mixed/pods.yaml", "examples/mixed/nodes.yaml", "examples/fleets/vendors.yaml")


def add_parser(verbs: "Verbs") -> None:
    """`demo`."""
    parser = verbs.add_parser("demo", help="the main job, end to end, on this machine", description=ABOUT)
    parser.add_argument("--pods", metavar="FILE", help=f"pods to submit (default: {PLAIN.pods})")
    parser.add_argument("--nodes", metavar="FILE", help="nodes for the preview")
    parser.add_argument(
        "--fleet",
        default=PLAIN.fleet,
        metavar="FILE",
        help="cards, for a node or for each that the file names; mixed: two nodes with three vendors' cards, and pods",
    )
    parser.add_argument("--keep", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument("--page-port", type=int, default=9092, help="port of the live page, with --keep")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo. Exit status 1 when a pod that should run does not."""
    from sandbox import CONTROL_PLANE, NODE, SandboxError, ensure, estimate, node_obstacle, run_directory

    files = MIXED if args.fleet == "mixed" else PLAIN
    args.fleet = files.fleet if args.fleet == "mixed" else args.fleet
    args.pods, args.nodes = args.pods or files.pods, args.nodes or files.nodes
    for name in (args.pods, args.nodes, args.fleet):
        if not Path(name).exists():
            raise CliError(f"{name} does not exist; run from a checkout, or name the files")
    args.node_names = _nodes_in(args.fleet, args.vendors)
    say = _Speaker(quiet=args.json)
    obstacle = node_obstacle()
    wanted = (*CONTROL_PLANE, *(("kwok",) if obstacle else NODE))
    if obstacle:
        say(f"No real node can run here: {obstacle}. A kwok node is used instead: pods are placed, not started.")
    try:
        if estimate(wanted):
            _preview(args, say)
        parts = ensure(wanted, say.progress)
        with run_directory() as run_dir:
            return _demo(args, say, run_dir, dict(parts), bool(obstacle))
    except SandboxError as error:
        raise CliError(str(error)) from error


def _nodes_in(fleet: str, vendors: tuple[Vendor, ...]) -> tuple[str, ...]:
    """The nodes that a fleet file names, or one where it names none. Raises CliError for what no sandbox can have."""
    import yaml

    from kerf.probes.simulated import SimulatedProbe
    from kerf.wire.errors import WireError
    from sandbox import SandboxError
    from sandbox.node import MOST_NODES, check_name

    try:
        names = tuple(at(yaml.safe_load(Path(fleet).read_text(encoding="utf-8")), "nodes")) or ("node-1",)
        for name in names:
            check_name(name)
        cards = [card for name in names for card in SimulatedProbe(fleet, name).known()]
    except (SandboxError, WireError, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise CliError(f"--fleet {fleet}: {' '.join(str(error).split())}") from error
    if unknown := {card.vendor for card in cards} - {vendor.name for vendor in vendors}:
        known = ", ".join(vendor.name for vendor in vendors)
        raise CliError(f"--fleet {fleet}: vendor {min(unknown)!r} is unknown; write one of {known}")
    if len(names) > MOST_NODES:
        raise CliError(
            f"--fleet {fleet} names {len(names)} nodes; each gets a kubelet here, so name {MOST_NODES} or fewer"
        )
    return names


def _preview(args: argparse.Namespace, say: "_Speaker") -> None:
    """While the first build runs, what the scheduler will say of the same pods."""
    from kerfctl.simulate import print_outcome, simulate
    from kerfctl.world import world_of_files

    say("The control plane is built from source first. Meanwhile, `kerf simulate` says of the same pods:")
    outcome = simulate(world_of_files([args.nodes, args.pods], None, args.vendors))
    if not args.json:
        print_outcome(outcome, "Cards, simulated")


def _demo(args: argparse.Namespace, say: "_Speaker", run_dir: Path, parts: dict[str, Path], fake: bool) -> int:
    from kerf.kube.client import connect
    from kerfctl.report import print_cards, print_parts, print_pods, print_refused
    from kerfctl.world import world_of_cluster

    started = time.monotonic()
    with _cluster(args, say, run_dir, parts, fake) as cp:
        kube = connect(str(cp.kubeconfig))
        names, at_once = _create(cp.api, args.pods)
        say(f"{len(names)} pods created")
        pods, waiting = _settled(cp.api, names, args.vendors)
        refused = [*at_once, *waiting]
        cards = world_of_cluster(kube, None, args.vendors).seen().cards()
        seconds = round(time.monotonic() - started, 1)
        if args.json:
            how = {"seconds": seconds, "node": "kwok" if fake else "kubelet"}
            print(json.dumps(json_of(pods, refused, cards) | how, indent=2))
        else:
            print_pods(pods)
            print_cards(cards, "Cards")
            print_parts(cards)
            print_refused(refused)
            say(f"{len(pods)} pods run, {len(refused)} cannot; {seconds} s from nothing to here.")
        if args.keep:
            say(f"export KUBECONFIG={cp.kubeconfig}   (Ctrl-C ends it)")
            account = _viewer(cp.api)
            say(f"the live page: kerf ui --url http://127.0.0.1:{args.page_port} --service-account {account}")
            _until_interrupted()
        return 0 if pods and all(pod.phase == "Running" for pod in pods) else 1


@contextmanager
def _cluster(
    args: argparse.Namespace, say: "_Speaker", run_dir: Path, parts: dict[str, Path], fake: bool
) -> Iterator[Any]:
    from sandbox import ControlPlane, start_nodes
    from sandbox.stack import PLUGIN, start_plugin, start_stack

    with ExitStack() as running:
        cp = running.enter_context(ControlPlane.start(run_dir, parts))
        say("API server is up")
        start_stack(cp, scheduler_arguments=("--page", f"127.0.0.1:{args.page_port}") if args.keep else ())
        say("webhook, scheduler extender and kube-scheduler are up")
        if fake:
            cp.start_kwok()
            _fake_nodes(cp, args.nodes)
        else:
            # Simulated MIG keeps its instances beside the file.
            fleet = Path(shutil.copy(args.fleet, cp.run_dir / "fleet.yaml"))
            for node in running.enter_context(start_nodes(cp, args.node_names)):
                start_plugin(cp, node, fleet, name=f"{PLUGIN}-{node.name}")
        say("every node is Ready and its cards are published")
        yield cp


def _fake_nodes(cp: Any, file: str) -> None:
    from kerfctl.documents import read_documents
    from sandbox import FakeNode

    cp.add_fake_nodes(
        FakeNode(
            item["metadata"]["name"],
            dict(at(item, "metadata", "annotations")),
            allocatable={k: v for k, v in item["status"]["allocatable"].items() if "/" in k},
        )
        for item in read_documents([file]).nodes
    )


def _create(api: Any, path: str) -> tuple[list[tuple[str, str]], list[RefusedLine]]:
    """Create the pods of a file: those that were stored, and those that the webhook refused."""
    from kerfctl.documents import read_documents
    from sandbox import ApiError

    names, refused = [], []
    for pod in read_documents([path]).pods:
        namespace, name = pod["metadata"]["namespace"], str(pod["metadata"].get("name", ""))
        try:
            created = api.post(f"/api/v1/namespaces/{namespace}/pods", runnable(pod))
        except ApiError as error:
            if error.status != FORBIDDEN:
                raise
            sentence = str(error).partition("denied the request: ")[2] or str(error)
            refused.append(RefusedLine(namespace, name, f"refused at creation: {sentence}"))
            continue
        names.append((namespace, str(created["metadata"]["name"])))
        _await_decision(api, *names[-1])
    return names, refused


def _await_decision(api: Any, namespace: str, name: str) -> None:
    """Wait until the pod has a node or a reason, so that on a slow machine too they are placed in the file's order."""
    from sandbox import SandboxError, await_until

    def decided() -> bool:
        pod = api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        reasons = items_at(pod, "status", "conditions")
        return bool(pod["spec"].get("nodeName")) or any(each.get("type") == "PodScheduled" for each in reasons)

    with suppress(SandboxError):
        await_until(decided, f"{name} to be placed or refused", DECISION_SECONDS)


def runnable(pod: Json) -> dict[str, Any]:
    """The pod with the sandbox's own image in every container: there is no registry here, the asks are what counts."""
    from sandbox import SLEEPER

    out: dict[str, Any] = copy.deepcopy(dict(pod))
    out["metadata"].pop("uid", None)
    spec = out["spec"]
    spec["automountServiceAccountToken"] = False
    spec["terminationGracePeriodSeconds"] = 1
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        plain_init = container in spec.get("initContainers", ()) and container.get("restartPolicy") != "Always"
        container.update(image=SLEEPER, imagePullPolicy="Never", args=["--exit", "0"] if plain_init else [])
        container.pop("command", None)
    return out


def _settled(
    api: Any, names: list[tuple[str, str]], vendors: tuple[Vendor, ...]
) -> tuple[list[PodLine], list[RefusedLine]]:
    """Wait until every pod runs or has been refused by the scheduler."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = [api.get(f"/api/v1/namespaces/{namespace}/pods/{name}") for namespace, name in names]
        lines = [_line(pod, vendors) for pod in found]
        if all(_done(line) for line in lines) or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    pods = [line for line in lines if isinstance(line, PodLine)]
    return pods, [line for line in lines if isinstance(line, RefusedLine)]


def _done(line: PodLine | RefusedLine) -> bool:
    return isinstance(line, RefusedLine) or line.phase in {"Running", "Succeeded", "Failed"}


def _line(pod: Json, vendors: tuple[Vendor, ...]) -> PodLine | RefusedLine:
    from kerf.wire.objects import parse_holding

    meta, status = pod["metadata"], at(pod, "status")
    if not pod["spec"].get("nodeName"):
        scheduled = next((c for c in items_at(status, "conditions") if c.get("type") == "PodScheduled"), at(None))
        if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
            return RefusedLine(meta["namespace"], meta["name"], str(scheduled.get("message", "")))
    holding = parse_holding(pod, vendors)
    slices = slice_lines(holding.grant) if holding else ()
    phase = str(status.get("phase", "Pending"))
    return PodLine(meta["namespace"], meta["name"], phase, str(pod["spec"].get("nodeName", "")), slices)


def _viewer(api: Any) -> str:
    """A ServiceAccount that may see everything: the admin of a sandbox has a certificate, and the page takes tokens."""
    name = "page-viewer"
    api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    api.post(bindings, {"metadata": {"name": name}, "roleRef": role, "subjects": subjects})
    return f"default/{name}"


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


class _Speaker:
    """Reports progress on standard error, so that standard output holds the answer alone."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = 0.0

    def __call__(self, words: str) -> None:
        if not self._quiet:
            print(words, file=sys.stderr, flush=True)

    def progress(self, progress: Any) -> None:
        """A build's progress with an estimate; on a terminal one line, elsewhere every 15 seconds."""
        line = (
            f"building {', '.join(progress.parts)}: {progress.elapsed:.0f} s, {_span(progress.left_in_all)} left in all"
        )
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last >= 15:
            self._last = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
