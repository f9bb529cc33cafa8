"""`kerf explain POD`: where a pod is and why, or why it waits and the smallest change that would let it run."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from kerf.values.ask import PodAsk
from kerf.values.units import show, show_mib
from kerf.values.verdict import Misfit
from kerfctl.failure import FailureError

Json = dict[str, Any]


def add_parser(verbs: Any) -> None:
    """`explain`."""
    from kerfctl.arguments import add_cluster_arguments

    parser = verbs.add_parser("explain", help="why a pod waits, or what it holds")
    parser.add_argument("pod", metavar="[NAMESPACE/]POD")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--file", action="append", metavar="FILE", help="read this snapshot instead of the cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_cluster_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain one pod. Exit status 1 when it cannot run."""
    store, pods = _world(args)
    namespace, _, name = args.pod.rpartition("/")
    key = f"{namespace or args.namespace}/{name}"
    answer = _explain(store, pods, key)
    print(json.dumps(answer, indent=2) if args.json else _text(answer))
    return 0 if answer["fits"] else 1


def _world(args: argparse.Namespace) -> tuple[Any, Sequence[Json]]:
    """The files or the cluster as a store, and the pods as they were read."""
    from kerfctl.cluster import connect_to, read_cluster, read_quotas, store_of
    from kerfctl.documents import read_documents

    world: tuple[Sequence[Json], Sequence[Json]]
    if args.file:
        documents = read_documents(args.file)
        world = documents.nodes, documents.pods
        quotas = documents.of("TenantQuota"), documents.of("ResourceQuota")
    else:
        kube = connect_to(args)
        world, quotas = read_cluster(kube), read_quotas(kube)
    store, _ = store_of(args.policy, world, quotas)
    return store, world[1]


def _explain(store: Any, pods: Sequence[Json], key: str) -> Json:
    for tenant in store.bookings.values():
        if tenant.key == key:
            uses = {card: [use.memory_mib, use.cores] for card, use in sorted(tenant.uses.items())}
            return {"pod": key, "fits": True, "node": tenant.node, "holds": uses}
    waiting = next((w for w in store.pending.pods.values() if w.ask.key == key), None)
    if waiting is None:
        raise FailureError(f"pod {key} is not there, is finished, or asks for no card")
    if waiting.problem:
        return {"pod": key, "fits": False, "sentence": waiting.problem, "reasons": {}}
    spec = next(pod.get("spec") or {} for pod in pods if pod["metadata"].get("uid") == waiting.ask.uid)
    return {"pod": key, **_where(store, waiting.ask, spec)}


def _where(store: Any, whole: PodAsk, spec: Json) -> Json:
    """The nodes that have room for a pod, or why none has."""
    from scheduler.core.eligible import NOT_ELIGIBLE, eligible_nodes

    known = sorted(store.node_values(), key=lambda node: node.name)
    names = eligible_nodes(spec, known)
    barred = {"not_eligible": len(known) - len(names)} if len(names) < len(known) else {}
    if not names:
        return {"fits": False, "sentence": NOT_ELIGIBLE, "reasons": barred}
    ask = store.quotas.narrow(whole)
    if isinstance(ask, Misfit):
        return {"fits": False, "sentence": ask.detail, "reasons": {"quota": len(names), **barred}}
    rows = store.fleet.rows(names)
    feasible = store.engine.query(ask, rows).feasible
    if feasible.any():
        return {"fits": True, "nodes": [names[i] for i in feasible.nonzero()[0][:10]], "count": int(feasible.sum())}
    told = store.engine.explain(ask, rows)
    reasons = {reason.name.lower(): count for reason, count in told.counts}
    return {"fits": False, "sentence": told.sentence, "reasons": {**reasons, **barred}, "nearest": told.node}


def _text(answer: Json) -> str:
    if "holds" in answer:
        held = [f"  {card}: {show_mib(mib)}, {cores} %" for card, (mib, cores) in answer["holds"].items()]
        return "\n".join([f"{answer['pod']} is on {answer['node']} and holds", *(held or ["  no card"])])
    if answer["fits"]:
        return f"{answer['pod']} fits on {show(answer['count'])} nodes now, {', '.join(answer['nodes'])} among them"
    lines = [f"{answer['pod']} cannot run: {answer['sentence']}"]
    lines += [f"  {show(count)} nodes: {reason.replace('_', ' ')}" for reason, count in answer["reasons"].items()]
    return "\n".join(lines)
