"""`kerf explain POD`: where a pod is and why, or why it waits and the smallest change that would let it run."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerf.values.ask import PodAsk
from kerf.values.mig import named
from kerf.values.units import show, show_mib
from kerf.values.verdict import Misfit
from kerf.wire.accepts import parse_chosen
from kerf.wire.json import Json, at
from kerf.wire.objects import cards_without_grant, is_finished
from kerfctl.arguments import add_cluster_arguments, add_scheduler_argument
from kerfctl.errors import CliError
from kerfctl.report import say

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs
    from kerfctl.world import World
    from scheduler.state.bookings import Booking
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
    add_scheduler_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain one pod. Exit status 1 when it cannot run, or when objects of the files were left out."""
    from kerfctl.world import read_world

    namespace, _, name = args.pod.rpartition("/")
    world = read_world(args)
    key = f"{namespace or args.namespace}/{name}"
    answer = _explain(world, key)
    if world.policy.express and not args.file and "holds" not in answer:  # a snapshot has no volumes
        answer["express"] = _left_by_the_lane(world, key)
    say(json.dumps(answer, indent=2) if args.json else _text(answer))
    return int(not answer["fits"] or bool(world.left_out))


def _explain(world: "World", key: str) -> Answer:
    from kerfctl.candidates import ENDS, waits
    from kerfctl.claiming.explain import explain_claims
    from kerfctl.world import key_of

    if refused := next((each for each in world.refused if key_of(each.pod) == key), None):
        return _no(key, f"refused at creation: {refused.refusal}")
    pod = next((pod for pod in world.pods if key_of(pod) == key), None)
    if pod is None:
        raise CliError(f"pod {key} does not exist{_similar(world, key)}")
    if is_finished(pod):
        raise CliError(f"pod {key} has finished: {at(pod, 'status').get('phase')}")
    store, uid = world.seen().store, at(pod, "metadata").get("uid")
    kind = _kind(pod)
    if booking := next((each for each in store.ledger.bookings() if each.uid == uid and each.key == key), None):
        uses = {card: [use.memory_mib, use.cores] for card, use in sorted(booking.uses.items())}
        faults = _faults(store, booking.node, list(uses), str(uid))
        held = {"pod": key, "fits": True, "node": booking.node, "holds": uses, **kind}
        lying = _instances(store, booking)
        if unknown := cards_without_grant(pod, store.desk.vendors):
            held["without_grant"] = unknown
        return held | ({"instances": lying} if lying else {}) | ({"faults": faults} if faults else {})
    if at(pod, "metadata").get("deletionTimestamp"):
        return _no(key, ENDS)
    if (said := explain_claims(world, store, pod, key)) is not None:
        return said
    waiting = store.desk.waiting_pod(str(uid))
    if waiting is None:
        raise CliError(f"pod {key} asks for no card")
    if reason := waits(pod, world.scheduler) or waiting.problem:
        return _no(key, reason) | kind
    return {"pod": key, **kind, **_where(world, store, waiting.ask, at(pod, "spec"))}


def _left_by_the_lane(world: "World", key: str) -> str:
    """Why the express lane leaves a pod to kube-scheduler; empty where it may bind the pod."""
    from kerfctl.world import key_of
    from scheduler.core.known_pods import why_not
    from scheduler.core.neighbours import LOOKED_AT, Terms, terms_of

    terms = Terms()
    for each in world.pods:
        if not is_finished(each):
            terms.add(terms_of(each))
    pod = next(pod for pod in world.pods if key_of(pod) == key)
    labels = at(pod, "metadata", "labels").items()
    return why_not(pod) or (LOOKED_AT if terms.look_at(key.partition("/")[0], labels) else "")


def _kind(pod: Json) -> Answer:
    """Which of several kinds of cards the pod was given, and why."""
    chosen = parse_chosen(at(pod, "metadata", "annotations"))
    if chosen is None:
        return {}
    return {"kind": chosen.kind, "among": list(chosen.among), "why": chosen.why}


def _instances(store: "Store", booking: "Booking") -> dict[str, str]:
    """Which MIG instances the pod has, by card."""
    node, found = store.desk.node(booking.node), dict[str, list[str]]()
    for container in booking.holding.grant.containers if booking.holding else ():
        for piece in container.slices:
            card = node.card(piece.card) if node else None
            if card is not None and card.mig is not None:
                words = named(card.mig, piece.memory_mib, piece.cores, piece.place)
                found.setdefault(piece.card, []).append(words)
    return {card: ", ".join(dict.fromkeys(words)) for card, words in found.items()}


def _faults(store: "Store", name: str, cards: list[str], uid: str) -> dict[str, str]:
    """The health of the pod's cards that are not healthy, and of its MIG instances."""
    node = store.desk.node(name)
    known = {card: one for card in cards if node and (one := node.card(card))}
    found = {
        card: f"{one.health}" + ("; its pods have to move" if one.health.moves else "")
        for card, one in known.items()
        if not one.health.takes_slices
    }
    hurt = {card: each for card, one in known.items() if one.mig for each in one.mig.hurt if each.uid == uid}
    return found | {card: f"{each.cause}; this pod alone has to move" for card, each in hurt.items()}


def _no(key: str, sentence: str) -> Answer:
    return {"pod": key, "fits": False, "sentence": sentence, "reasons": {}}


def _similar(world: "World", key: str) -> str:
    """Pods of a workload are numbered, so say which there are."""
    from kerfctl.world import key_of

    close = [each for each in map(key_of, world.pods) if each.startswith(key)][:3]
    return f"; there are {', '.join(close)}" if close else ""


def _where(world: "World", store: "Store", ask: PodAsk, spec: Json) -> Answer:
    """The nodes that have room for a pod, or why none has."""
    from kerfctl.candidates import candidates

    allowed = candidates(spec, store.desk.nodes(), world.offers())
    if allowed.sentence:
        return {"fits": False, "sentence": allowed.sentence, "reasons": allowed.barred}
    where = store.desk.fits(ask, allowed.names)
    if isinstance(where, Misfit):
        return {"fits": False, "sentence": where.detail, "reasons": {"quota": len(allowed.names), **allowed.barred}}
    if where.why is None:
        return {"fits": True, "nodes": where.fits[:10], "count": len(where.fits)}
    reasons = {reason.name.lower(): count for reason, count in where.why.counts} | allowed.barred
    found = {"fits": False, "sentence": where.why.sentence, "reasons": reasons, "nearest": where.why.node}
    unmet = store.desk.unmet(ask)
    return {**found, "guarantee": unmet} if unmet else found


def _text(answer: Answer) -> str:
    lines = [_state_text(answer)]
    if "express" in answer:
        left = answer["express"]
        lines.append(f"  the express lane {f'leaves it to kube-scheduler: {left}' if left else 'may bind it'}")
    if "kind" in answer:
        others = ", ".join(kind for kind in answer["among"] if kind != answer["kind"])
        lines.append(f"  it was given {answer['kind']} when it was made: {answer['why'] or 'nothing says why'}")
        if others and not answer["fits"]:
            lines.append(f"  it also accepts {others}: delete the pod, and its owner's next one is given the best kind")
    return "\n".join(lines)


def _state_text(answer: Answer) -> str:
    if "holds" in answer:
        lying, faults = answer.get("instances", {}), answer.get("faults", {})
        held = [
            f"  {card}: {show_mib(mib)}, {cores} %"
            + "".join(f", {said[card]}" for said in (lying, faults) if card in said)
            for card, (mib, cores) in answer["holds"].items()
        ]
        if unknown := answer.get("without_grant"):
            held.append(f"  {unknown} cards without a grant of Kerf's: {answer['node']} takes no slices until it ends")
        return "\n".join([f"{answer['pod']} is on {answer['node']} and holds", *(held or ["  no card"])])
    if "claims" in answer:
        return "\n  ".join([f"{answer['pod']} waits: {answer['sentence']}", *filter(None, [answer.get("guarantee")])])
    if answer["fits"]:
        return f"{answer['pod']} fits on {show(answer['count'])} nodes now, {', '.join(answer['nodes'])} among them"
    lines = [f"{answer['pod']} cannot run: {answer['sentence']}"]
    lines += [f"  {show(count)} nodes: {reason.replace('_', ' ')}" for reason, count in answer["reasons"].items()]
    lines += [f"  {answer['guarantee']}"] if "guarantee" in answer else []
    return "\n".join(lines)
