"""`kerf explain POD`: where a pod is and why, or why it waits and the smallest change that would let it run."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerf.values.ask import PodAsk
from kerf.values.units import show, show_mib
from kerf.values.verdict import Misfit
from kerf.wire.json import Json, at
from kerfctl.arguments import add_cluster_arguments
from kerfctl.errors import CliError
from kerfctl.report import say

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs
    from kerfctl.world import World
    from scheduler.state.store import Store

Answer = dict[str, Any]
"""The JSON form of what is said of a pod."""


def add_parser(verbs: "Verbs") -> None:
    """`explain`."""
    parser = verbs.add_parser("explain", help="why a pod waits, or what it holds")
    parser.add_argument("pod", metavar="[NAMESPACE/]POD")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--file", action="append", metavar="FILE", help="read this snapshot instead of the cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_cluster_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain one pod. Exit status 1 when it cannot run."""
    from kerfctl.world import read_world

    namespace, _, name = args.pod.rpartition("/")
    answer = _explain(read_world(args), f"{namespace or args.namespace}/{name}")
    say(json.dumps(answer, indent=2) if args.json else _text(answer))
    return 0 if answer["fits"] else 1


def _explain(world: "World", key: str) -> Answer:
    store = world.seen().store
    for booking in store.ledger.bookings():
        if booking.key == key:
            uses = {card: [use.memory_mib, use.cores] for card, use in sorted(booking.uses.items())}
            return {"pod": key, "fits": True, "node": booking.node, "holds": uses}
    waiting = next((w for w in store.desk.waiting() if w.ask.key == key), None)
    if waiting is None:
        raise CliError(f"pod {key} does not exist, has finished, or asks for no card")
    if waiting.problem:
        return {"pod": key, "fits": False, "sentence": waiting.problem, "reasons": {}}
    spec = next(at(pod, "spec") for pod in world.pods if pod["metadata"].get("uid") == waiting.ask.uid)
    return {"pod": key, **_where(store, waiting.ask, spec)}


def _where(store: "Store", ask: PodAsk, spec: Json) -> Answer:
    """The nodes that have room for a pod, or why none has."""
    from scheduler.core.eligible import NOT_ELIGIBLE, eligible_nodes

    known = store.desk.nodes()
    names = eligible_nodes(spec, known)
    barred = {"not_eligible": len(known) - len(names)} if len(names) < len(known) else {}
    if not names:
        return {"fits": False, "sentence": NOT_ELIGIBLE, "reasons": barred}
    where = store.desk.fits(ask, names)
    if isinstance(where, Misfit):
        return {"fits": False, "sentence": where.detail, "reasons": {"quota": len(names), **barred}}
    if where.why is None:
        return {"fits": True, "nodes": where.fits[:10], "count": len(where.fits)}
    reasons = {reason.name.lower(): count for reason, count in where.why.counts}
    return {"fits": False, "sentence": where.why.sentence, "reasons": {**reasons, **barred}, "nearest": where.why.node}


def _text(answer: Answer) -> str:
    if "holds" in answer:
        held = [f"  {card}: {show_mib(mib)}, {cores} %" for card, (mib, cores) in answer["holds"].items()]
        return "\n".join([f"{answer['pod']} is on {answer['node']} and holds", *(held or ["  no card"])])
    if answer["fits"]:
        return f"{answer['pod']} fits on {show(answer['count'])} nodes now, {', '.join(answer['nodes'])} among them"
    lines = [f"{answer['pod']} cannot run: {answer['sentence']}"]
    lines += [f"  {show(count)} nodes: {reason.replace('_', ' ')}" for reason, count in answer["reasons"].items()]
    return "\n".join(lines)
