"""`kerf repack`: which pods to move so that whole cards, or a waiting pod, get room."""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from kerf.values.mig import named
from kerfctl.arguments import add_cluster_arguments
from kerfctl.errors import CliError
from kerfctl.report import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kerf.kube.client import Kube
    from kerf.values.device import Card
    from kerf.values.grant import Grant
    from kerfctl.arguments import Verbs
    from kerfctl.world import World
    from scheduler.solver.problem import Move, Repack

GONE_SECONDS = 120.0


def add_parser(verbs: "Verbs") -> None:
    """`repack`."""
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
    from kerfctl.moves import plan_moves
    from kerfctl.world import Also, read_world

    if args.max_moves < 1:
        raise CliError(f"--max-moves {args.max_moves}: write a number from 1")
    if args.apply and args.file:
        raise CliError("--apply works on a cluster, not on --file")
    world = read_world(args, Also.BUDGETS)
    repack = plan_moves(world, args.target, args.max_moves)
    if args.json:
        print(json.dumps(_as_json(repack, _instances(world, repack)), indent=2))
    else:
        say(_as_text(repack, _instances(world, repack)))
    if args.apply and repack.moves:
        return _apply(world, args.policy, repack)
    return 0


def _instances(world: "World", repack: "Repack") -> dict[str, str]:
    """By uid of the pods that move, which MIG instances they hold and where these will lie."""
    desk, before = world.seen().store.desk, {each.uid: each.grant for each in world.seen().store.ledger.holdings()}
    cards = {card.id: card for node in desk.nodes() for card in node.cards}
    found = {}
    for move in repack.moves:
        old, new = (_lying(grant, cards) for grant in (before.get(move.uid), move.grant))
        pairs = [f"{a} of {c} from {b} to {e} of {f}" for (a, b, c), (_, e, f) in zip(old, new, strict=False)]
        if pairs and len(old) == len(new):
            found[move.uid] = ", ".join(pairs)
    return found


def _lying(grant: "Grant | None", cards: "Mapping[str, Card]") -> list[tuple[str, str, str]]:
    """Profile, place and card of each MIG instance of a grant."""
    slices = [piece for container in grant.containers for piece in container.slices] if grant else []
    held = [(piece, geometry) for piece in slices if piece.card in cards and (geometry := cards[piece.card].mig)]
    words = [(named(geometry, s.memory_mib, s.cores, s.place).partition(" at "), s.card) for s, geometry in held]
    return [(profile, place, card) for (profile, _, place), card in words]


def _as_json(repack: "Repack", instances: dict[str, str]) -> dict[str, Any]:
    moves = [
        {"pod": m.pod, "from": m.from_node, "to": m.to_node}
        | ({"instances": instances[m.uid]} if m.uid in instances else {})
        for m in repack.moves
    ]
    placed = [{"pod": p.pod_key, "node": p.node} for p in repack.placed]
    return {"moves": moves, "frees": list(repack.frees), "placed": placed, "status": repack.status}


def _as_text(repack: "Repack", instances: dict[str, str]) -> str:
    if repack.rejected:
        return f"no plan: the checker refused it ({repack.rejected})"
    which = {uid: f": {words}" for uid, words in instances.items()}
    lines = [
        f"{i}. move {m.pod} from {m.from_node} to {m.to_node}{which.get(m.uid, '')}"
        for i, m in enumerate(repack.moves, 1)
    ]
    lines += [f"then {p.pod_key} fits on {p.node}" for p in repack.placed]
    if repack.frees:
        lines.append(f"empties {', '.join(repack.frees)}")
    return "\n".join(lines) or f"nothing to move ({repack.status})"


def _apply(world: "World", policy: str | None, repack: "Repack") -> int:
    """Evict one pod after another, each only while the live state is what the plan expects."""
    from kerf.kube.errors import KubeError
    from kerf.kube.evict import AlreadyGone, NotEvicted, evict
    from kerfctl.moves import why_not_now
    from kerfctl.world import Also, world_of_cluster

    assert world.kube is not None, "--apply is refused for files"
    kube = world.kube
    for number, move in enumerate(repack.moves, 1):
        step = f"stopped before move {number} of {len(repack.moves)}, {move.pod}"
        if reason := why_not_now(world_of_cluster(kube, policy, world.vendors, Also.BUDGETS), move):
            raise CliError(f"{step}: {reason}")
        found = evict(kube, move.pod, move.uid)
        if isinstance(found, NotEvicted):
            raise CliError(f"{step}: {found.reason}")
        if isinstance(found, AlreadyGone):
            raise CliError(f"{step}: it does not exist any more")
        try:
            _await_gone(kube, move)
        except KubeError as error:
            raise CliError(f"{step}: {error}") from error
        say(f"{number}. evicted {move.pod} from {move.from_node}")
    return 0


def _await_gone(kube: "Kube", move: "Move") -> None:
    from kerf.kube import paths
    from kerf.kube.errors import NotFound

    path = paths.pod(*move.pod.split("/"))
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            if kube.get(path)["metadata"]["uid"] != move.uid:
                return
        except NotFound:
            return
        time.sleep(0.5)
    raise CliError(f"{move.pod} is still terminating after {GONE_SECONDS:.0f} s; nothing further was evicted")
