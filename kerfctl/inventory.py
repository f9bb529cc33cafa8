"""`kerf inventory`: the cards of a cluster and the pods that hold them."""

import argparse
import json
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`inventory`."""
    parser = verbs.add_parser("inventory", help="the cards of the cluster and who holds what")
    add_cluster_arguments(parser)
    parser.add_argument("--file", metavar="FILE", action="append", help="a snapshot or manifests instead of a cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read and print."""
    from kerf.views.lines import json_of
    from kerfctl.report import print_cards, print_faults, print_parts, say
    from kerfctl.world import read_world

    seen = read_world(args).seen()
    if args.json:
        print(json.dumps(json_of((), (), seen.cards()), indent=2))
        return 0
    cards = seen.cards()
    print_cards(cards, "Cards")
    print_parts(cards)
    print_faults(cards)
    for node in seen.store.desk.nodes():
        if node.problem:
            say(f"{node.name}: {node.problem}")
    return 0
