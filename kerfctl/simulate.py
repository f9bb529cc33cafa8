"""`kerf simulate FILE…`: what Kerf would do with these pods on these nodes. Needs no cluster."""

import argparse
from dataclasses import dataclass
from typing import Any

from kerfctl.documents import Documents, read_documents
from kerfctl.failure import FailureError
from kerfctl.report import (
    PodLine,
    RefusedLine,
    print_cards,
    print_pods,
    print_refused,
    render_json,
    slice_lines,
)

ABOUT = """Read Kubernetes YAML or JSON (nodes with an inventory, pods and workloads, in order; also the output of
`kubectl get nodes,pods -A -o json` and of `kerf snapshot`), place the waiting pods with the scheduler's own code, and
print placements, cards and refusals with their reasons. Node selectors, required node affinity, taints, CPU and memory
are honoured, and so are TenantQuotas and ResourceQuotas among the files; preferences, pod affinity and topology spread
are kube-scheduler's and are left out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation found."""

    pods: tuple[PodLine, ...]
    refused: tuple[RefusedLine, ...]
    store: Any
    """The scheduler's store as it stands at the end."""


def add_parser(verbs: Any) -> None:
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
    from kerfctl.cluster import card_lines

    outcome = simulate(args.files, args.policy)
    cards = card_lines(outcome.store)
    if args.json:
        print(render_json(outcome.pods, outcome.refused, cards))
        return 0
    print_pods(outcome.pods)
    print_cards(cards, "Cards")
    print_refused(outcome.refused)
    return 0


def simulate(files: list[str], policy_file: str | None) -> Outcome:
    """Place every waiting pod of the files in order."""
    from kerf.config.load import read_policy
    from kerf.vendors.registry import VENDORS
    from scheduler.state.store import Store

    documents = read_documents(files)
    if not documents.nodes:
        raise FailureError(f"{', '.join(files)}: no node; give nodes with a kerf.dev/inventory annotation")
    store = Store(read_policy(policy_file), VENDORS, check_node=True)
    for node in documents.nodes:
        store.apply_node("ADDED", node)
    _hold_to_quotas(store, documents)
    waiting = [pod for pod in documents.pods if not (pod.get("spec") or {}).get("nodeName")]
    for pod in documents.pods:
        store.apply_pod("ADDED", pod)
    running = _running(store)
    placed: list[PodLine] = []
    refused: list[RefusedLine] = []
    for pod in waiting:
        line = _place(store, pod, documents.nodes)
        (placed if isinstance(line, PodLine) else refused).append(line)  # type: ignore[arg-type]
    return Outcome((*running, *placed), tuple(refused), store)


def _hold_to_quotas(store: Any, documents: Documents) -> None:
    """A quota file that cannot be read is a mistake here, not something to work around."""
    from kerfctl.cluster import load_quotas

    keeper = load_quotas(store, documents.of("TenantQuota"), documents.of("ResourceQuota"))
    for name, sentence in keeper.unreadable.items():
        raise FailureError(f"TenantQuota {name}: {sentence}")


def _running(store: Any) -> list[PodLine]:
    lines = []
    for holding in store.holdings():
        namespace, _, name = holding.pod.partition("/")
        lines.append(PodLine(namespace, name, "Running", holding.node, slice_lines(holding.grant)))
    return lines


def _place(store: Any, pod: dict[str, Any], nodes: tuple[dict[str, Any], ...]) -> PodLine | RefusedLine:
    import numpy as np

    from kerf.values.verdict import Misfit
    from scheduler.core.eligible import NOT_ELIGIBLE, eligible_nodes
    from scheduler.core.explain import explain_misfit

    meta = pod["metadata"]
    namespace, name = str(meta["namespace"]), str(meta.get("name", ""))
    waiting = store.pending.pods.get(meta["uid"])
    if waiting is None:
        return PodLine(namespace, name, "Pending", "", ())
    if waiting.problem:
        return RefusedLine(namespace, name, waiting.problem)
    known = [store.node(node["metadata"]["name"]) for node in nodes]
    names = eligible_nodes(pod.get("spec") or {}, known)
    if not names:
        return RefusedLine(namespace, name, NOT_ELIGIBLE)
    ask = store.quotas.narrow(waiting.ask)
    if isinstance(ask, Misfit):
        return RefusedLine(namespace, name, ask.detail)
    rows = store.fleet.rows(names)
    answer = store.engine.query(ask, rows)
    if not answer.feasible.any():
        return RefusedLine(namespace, name, store.engine.explain(ask, rows).sentence)
    fits = np.flatnonzero(answer.feasible)
    scores = store.engine.scores(ask, rows[fits])
    node = names[int(fits[int(scores.argmax())])]
    grant = store.assume(waiting.ask, node, waiting.stages)
    if isinstance(grant, Misfit):
        return RefusedLine(namespace, name, explain_misfit(grant))
    return PodLine(namespace, name, "Placed", node, slice_lines(grant))
