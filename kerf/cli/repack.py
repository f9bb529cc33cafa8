"""`kerf repack`: which pods to move so that whole cards, or a waiting pod, get room."""

import argparse
import json
import time
from typing import Any

from kerf.cli.failure import FailureError

GONE_SECONDS = 120.0


def add_parser(verbs: Any) -> None:
    """`repack`."""
    from kerf.cli.arguments import add_cluster_arguments

    parser = verbs.add_parser("repack", help="plan (and apply) moves that free whole cards or make room for a pod")
    add_cluster_arguments(parser)
    parser.add_argument("--for", dest="target", metavar="NAMESPACE/POD", help="make room for this waiting pod")
    parser.add_argument("--max-moves", type=int, default=8, metavar="N", help="pods to move at most (default: 8)")
    parser.add_argument("--plan", action="store_true", help="print the plan only (the default)")
    parser.add_argument("--apply", action="store_true", help="evict in that order; stop at the first surprise")
    parser.add_argument("--file", action="append", metavar="FILE", help="plan for this snapshot instead of the cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, print, and apply if asked to."""
    from kerf.cli.moves import plan_moves

    if args.max_moves < 1:
        raise FailureError(f"--max-moves {args.max_moves}: write a number from 1")
    if args.apply and args.file:
        raise FailureError("--apply works on a cluster, not on --file")
    repack, store = plan_moves(args)
    if args.json:
        print(json.dumps(_as_json(repack), indent=2))
    else:
        print(_as_text(repack))
    if args.apply and repack.moves:
        return _apply(args, repack, store)
    return 0


def _as_json(repack: Any) -> dict[str, Any]:
    moves = [{"pod": m.pod, "from": m.from_node, "to": m.to_node} for m in repack.moves]
    return {"moves": moves, "frees": list(repack.frees)}


def _as_text(repack: Any) -> str:
    if not repack.moves:
        return "nothing to move: no move within the limit frees anything"
    lines = [f"{i}. move {m.pod} from {m.from_node} to {m.to_node}" for i, m in enumerate(repack.moves, 1)]
    return "\n".join([*lines, f"frees {', '.join(map(str, repack.frees))}"])


def _apply(args: argparse.Namespace, repack: Any, store: Any) -> int:
    """Evict one pod after another; the next only when the last is gone and nothing unplanned happened."""
    from kerf.cli.cluster import connect_to
    from kerf.kube import paths
    from kerf.kube.errors import KubeError

    kube = connect_to(args)
    uids = {tenant.key: tenant.uid for tenant in store.tenants.values()}
    for number, move in enumerate(repack.moves, 1):
        namespace, _, name = move.pod.partition("/")
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uids[move.pod]}},
        }
        try:
            kube.create(paths.eviction(namespace, name), body)
            _await_gone(kube, namespace, name, uids[move.pod])
        except KubeError as error:
            raise FailureError(f"stopped at move {number} of {len(repack.moves)}, {move.pod}: {error}") from error
        print(f"{number}. evicted {move.pod} from {move.from_node}")
    return 0


def _await_gone(kube: Any, namespace: str, name: str, uid: str) -> None:
    from kerf.kube import paths
    from kerf.kube.errors import NotFound

    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            if kube.get(paths.pod(namespace, name))["metadata"]["uid"] != uid:
                return
        except NotFound:
            return
        time.sleep(0.5)
    raise FailureError(f"{namespace}/{name} is still ending after {GONE_SECONDS:.0f} s; nothing further was evicted")
