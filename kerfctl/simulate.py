"""`kerf simulate FILE…`: what Kerf would do with these pods on these nodes. Needs no cluster."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kerf.values.node import Node
from kerf.values.verdict import Misfit
from kerf.views.lines import CardLine, PodLine, RefusedLine, json_of, pod_line
from kerf.wire.json import Json, at
from kerfctl.arguments import add_prices_argument, add_scheduler_argument
from kerfctl.errors import CliError

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs
    from kerfctl.claiming.place import ClaimPlaces
    from kerfctl.world import World
    from scheduler.state.pending import Waiting
    from scheduler.state.store import Store

ABOUT = """Read Kubernetes YAML or JSON (nodes with an inventory, pods, and workloads that make pods, in order; also
the output of `kubectl get nodes,pods -A -o json` and of `kerf snapshot`). New pods pass the webhook's rules; then the
waiting pods are placed with the scheduler's own code. Node selectors, required node affinity, taints, CPU, memory and
extended resources are honoured, and so are TenantQuotas and ResourceQuotas among the files; new ResourceClaims get
what Kubernetes' allocator would give them; preferences, pod affinity,
topology spread and volumes are kube-scheduler's and are left out. A pod that is refused or fits nowhere is an answer:
exit status 0. Exit status 1 when an object was left out, and with --clusters when a replica has no place."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation found; `cards` as they are used at its end."""

    pods: tuple[PodLine, ...]
    refused: tuple[RefusedLine, ...]
    cards: tuple[CardLine, ...]
    notes: tuple[str, ...] = ()
    """What the webhook warns of, gangs that are not whole, and workloads that make no pods."""
    left_out: tuple[str, ...] = ()
    """Objects that were not read; the answer is not whole."""


def add_parser(verbs: "Verbs") -> None:
    """`simulate`."""
    parser = verbs.add_parser("simulate", help="place pods on nodes from files, without a cluster", description=ABOUT)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML or JSON, a folder of them, or - for standard input"
    )
    parser.add_argument("--policy", metavar="FILE", help="SchedulingPolicy; default: Kerf's own")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--new", action="store_true", help="show only the pods that are not bound yet")
    parser.add_argument(
        "--clusters",
        nargs="+",
        metavar="PATH",
        help="plan over several clusters: a file or folder for each (see docs/fleet.md)",
    )
    add_prices_argument(parser)
    add_scheduler_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulate and print; ABOUT says which exit status means what."""
    if args.clusters:
        from kerfctl.fleet.what_if import print_what_if, what_if

        found_fleet = what_if(args.files, args.clusters, args.policy, args.prices, args.vendors)
        return print_what_if(found_fleet, args.json)
    from kerfctl.world import world_of_files

    found = simulate(world_of_files(args.files, args.policy, args.vendors, args.scheduler_name, args.prices))
    if args.new:
        found = replace(found, pods=tuple(line for line in found.pods if line.phase != "Running"), cards=())
    if args.json:
        lines = json_of(found.pods, found.refused, found.cards)
        print(json.dumps({**lines, "notes": found.notes, "left_out": found.left_out}, indent=2))
    else:
        print_outcome(found)
    return int(bool(found.left_out))


def print_outcome(found: Outcome, title: str = "Cards") -> None:
    """Tables, and a line for everything that has no place in them."""
    from kerfctl.report import print_cards, print_pods, print_refused, say

    print_pods(found.pods)
    if found.cards:
        print_cards(found.cards, title)
    print_refused(found.refused)
    say(*(f"! {line}" for line in (*found.notes, *found.left_out)))


def simulate(world: "World") -> Outcome:
    """Place every waiting pod of the world in order. Raises CliError."""
    from kerfctl.claiming.place import claim_places
    from kerfctl.gangs import broken_gangs

    seen = world.seen()
    for name, sentence in seen.unreadable.items():  # a mistake in a file, not something to work around
        raise CliError(f"TenantQuota {name}: {sentence}")
    running = [pod_line(held.pod, "Running", held.node, held.grant) for held in seen.store.ledger.holdings()]
    claims = claim_places(world, seen.store)
    placing = _Placing(seen.store, claims, world.scheduler, seen.store.desk.nodes())
    lines = [placing.place(pod) for pod in world.pods if not at(pod, "spec").get("nodeName")]
    placed = [line for line in lines if isinstance(line, PodLine)]
    refused = [_refused(each.pod, f"refused at creation: {each.refusal}") for each in world.refused]
    refused += [line for line in lines if isinstance(line, RefusedLine)]
    idle = [f"{namespace}/{name}: {reason}" for namespace, name, reason in world.idle]
    held = [
        f"{each.node} takes no slices: pod {each.key} holds {each.without_grant} of its cards without a grant of Kerf's"
        for each in seen.store.ledger.bookings()
        if each.without_grant
    ]
    notes = (*world.warnings, *idle, *held, *broken_gangs(seen.store))
    return Outcome((*running, *placed), tuple(refused), seen.cards(), notes, (*world.left_out, *claims.unread))


def _refused(pod: Json, reason: str) -> RefusedLine:
    meta = at(pod, "metadata")
    return RefusedLine(
        str(meta.get("namespace") or "default"), str(meta.get("name") or meta.get("generateName") or ""), reason
    )


@dataclass(frozen=True, slots=True)
class _Placing:
    """Pods placed one after another, each beside those before it."""

    store: "Store"
    claims: "ClaimPlaces"
    scheduler: str
    nodes: Sequence[Node]

    def place(self, pod: Json) -> PodLine | RefusedLine:
        """A line for a pod that is not bound."""
        from kerfctl.candidates import ENDS, waits

        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            return _refused(pod, ENDS)
        waiting = self.store.desk.waiting_pod(meta["uid"])
        claiming = self.claims.claiming(pod)
        if claiming is not None:
            named = str(at(pod, "spec").get("schedulerName") or self.scheduler)  # any scheduler allocates claims
            answer = waits(pod, named) or (claiming if isinstance(claiming, str) else self.claims.place(claiming))
            return _refused(pod, answer) if isinstance(answer, str) else answer
        if waiting is None:
            return PodLine(str(meta["namespace"]), str(meta.get("name", "")), "Pending", "", ())
        found = waits(pod, self.scheduler) or waiting.problem or self._assume(waiting, at(pod, "spec"))
        return _refused(pod, found) if isinstance(found, str) else found

    def _assume(self, waiting: "Waiting", spec: Json) -> PodLine | str:
        """Place a waiting pod on the best of the nodes that its spec allows, or say why none takes it."""
        from kerfctl.candidates import candidates
        from scheduler.core.explain import explain_misfit

        allowed = candidates(spec, self.nodes, self.claims.offers)
        if allowed.sentence:
            return allowed.sentence
        desk = self.store.desk
        where = desk.fits(waiting.ask, allowed.names)
        if isinstance(where, Misfit):
            return where.detail
        if where.why is not None:
            return where.why.sentence
        node = where.fits[int(desk.order(waiting.ask, where.fits).argmax())]
        grant = desk.assume(waiting.ask, node, waiting.stages)
        if isinstance(grant, Misfit):
            return explain_misfit(grant)
        self.claims.offers.take(spec, node)
        return pod_line(waiting.ask.key, "Placed", node, grant)
