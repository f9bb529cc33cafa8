"""`kerf inventory`: the cards of a cluster and who holds them."""

import argparse
from typing import Any

from kerfctl.report import print_cards, render_json


def add_parser(verbs: Any) -> None:
    """`inventory`."""
    from kerfctl.arguments import add_cluster_arguments

    parser = verbs.add_parser("inventory", help="the cards of the cluster and who holds what")
    add_cluster_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read and print."""
    from kerfctl.cluster import card_lines, connect_to, live_store

    store = live_store(connect_to(args), args.policy)
    cards = card_lines(store)
    if args.json:
        print(render_json((), (), cards))
        return 0
    print_cards(cards, "Cards")
    for name in store.node_names():
        node = store.node(name)
        if node is not None and node.problem:
            print(f"{name}: {node.problem}")
    return 0
