"""`kerf simulate FILE…`: what Kerf would do with these pods on these nodes. Needs no cluster."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kerf.values.node import Node
from kerf.values.vendor import Vendor
from kerf.values.verdict import Misfit
from kerf.views.lines import CardLine, PodLine, RefusedLine, json_of, pod_line
from kerf.wire.json import Json, at
from kerfctl.errors import CliError

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs
    from scheduler.state.pending import Waiting
    from scheduler.state.store import Store

ABOUT = """Read Kubernetes YAML or JSON (nodes with an inventory, pods and workloads, in order; also the output of
`kubectl get nodes,pods -A -o json` and of `kerf snapshot`), place the waiting pods with the scheduler's own code, and
print placements, cards and refusals with their reasons. Node selectors, required node affinity, taints, CPU and memory
are honoured, and so are TenantQuotas and ResourceQuotas among the files; preferences, pod affinity and topology spread
are kube-scheduler's and are left out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation found; `cards` as they are used at its end."""

    pods: tuple[PodLine, ...]
    refused: tuple[RefusedLine, ...]
    cards: tuple[CardLine, ...]


def add_parser(verbs: "Verbs") -> None:
    """`simulate`."""
    parser = verbs.add_parser("simulate", help="place pods on nodes from files, without a cluster", description=ABOUT)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON, a folder of them, or - for standard input"
    )
    parser.add_argument("--policy", metavar="FILE", help="SchedulingPolicy; default: Kerf's own")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulate and print. Exit status 0 also when pods are refused: that is an answer."""
    from kerfctl.report import print_cards, print_pods, print_refused

    found = simulate(args.files, args.policy, args.vendors)
    if args.json:
        print(json.dumps(json_of(found.pods, found.refused, found.cards), indent=2))
        return 0
    print_pods(found.pods)
    print_cards(found.cards, "Cards")
    print_refused(found.refused)
    return 0


def simulate(files: Sequence[str], policy_file: str | None, vendors: tuple[Vendor, ...]) -> Outcome:
    """Place every waiting pod of the files in order. Raises CliError."""
    from kerfctl.world import world_of_files

    world = world_of_files(files, policy_file, vendors)
    seen = world.seen()
    for name, sentence in seen.unreadable.items():  # a mistake in a file, not something to work around
        raise CliError(f"TenantQuota {name}: {sentence}")
    running = [pod_line(held.pod, "Running", held.node, held.grant) for held in seen.store.ledger.holdings()]
    nodes = [seen.store.desk.node(node["metadata"]["name"]) for node in world.nodes]
    known = [node for node in nodes if node is not None]
    placed: list[PodLine] = []
    refused: list[RefusedLine] = []
    for pod in world.pods:
        if at(pod, "spec").get("nodeName"):
            continue
        line = _place(seen.store, pod, known)
        if isinstance(line, PodLine):
            placed.append(line)
        else:
            refused.append(line)
    return Outcome((*running, *placed), tuple(refused), seen.cards())


def _place(store: "Store", pod: Json, nodes: Sequence[Node]) -> PodLine | RefusedLine:
    from scheduler.core.eligible import eligible_nodes

    meta = pod["metadata"]
    namespace, name = str(meta["namespace"]), str(meta.get("name", ""))
    waiting = store.desk.waiting_pod(meta["uid"])
    if waiting is None:
        return PodLine(namespace, name, "Pending", "", ())
    found = waiting.problem or _assume(store, waiting, eligible_nodes(at(pod, "spec"), nodes))
    return RefusedLine(namespace, name, found) if isinstance(found, str) else found


def _assume(store: "Store", waiting: "Waiting", names: list[str]) -> PodLine | str:
    """Place a waiting pod on the best of the nodes that its spec allows, or say why none takes it."""
    from scheduler.core.eligible import NOT_ELIGIBLE
    from scheduler.core.explain import explain_misfit

    if not names:
        return NOT_ELIGIBLE
    where = store.desk.fits(waiting.ask, names)
    if isinstance(where, Misfit):
        return where.detail
    if where.why is not None:
        return where.why.sentence
    node = where.fits[int(store.desk.order(waiting.ask, where.fits).argmax())]
    grant = store.desk.assume(waiting.ask, node, waiting.stages)
    return explain_misfit(grant) if isinstance(grant, Misfit) else pod_line(waiting.ask.key, "Placed", node, grant)
