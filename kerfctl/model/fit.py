"""`kerf model fit`: which cards of a fleet hold a model, and in what split."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerfctl.arguments import add_cluster_arguments
from kerfctl.model.arguments import add_ask, ask_of

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`fit`."""
    parser = verbs.add_parser("fit", help="which cards of this fleet, in what split, the least wasteful first")
    add_ask(parser)
    add_cluster_arguments(parser)
    parser.add_argument("--fleet", metavar="FILE", help="a fleet file (examples/fleets) instead of the cluster")
    parser.add_argument("--file", action="append", metavar="FILE", help="read this snapshot instead of the cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the fleet, estimate on each kind of card, print. Exits 1 where nothing fits."""
    from kerf.sizing.fit import offers
    from kerfctl.model.fleets import cluster_nodes, file_nodes
    from kerfctl.model.sources import load_model

    model = load_model(args.model)
    nodes = file_nodes(args.fleet) if args.fleet else cluster_nodes(args)
    found, refused = offers(model, ask_of(args), nodes)
    if args.json:
        print(json.dumps({
            "offers": [_offer_json(offer) for offer in found],
            "refused": [{"card": one.card, "card_mib": one.card_mib, "reason": one.reason} for one in refused],
        }))  # fmt: skip
    else:
        _print(args.model, found, refused)
    return 0 if found else 1


def _offer_json(offer: Any) -> dict[str, Any]:
    ranks = offer.found.ranks
    return {
        "card": offer.card,
        "card_mib": offer.card_mib,
        "tp": ranks.tp,
        "pp": ranks.pp,
        "cards": ranks.cards,
        "slice_mib": offer.found.slice_mib,
        "cores": offer.found.cores,
        "wasted_mib": offer.wasted_mib,
        "nodes": offer.nodes,
        "price": None,
    }


def _print(name: str, found: list[Any], refused: list[Any]) -> None:
    from kerfctl.report import Sheet, say

    if found:
        numbered = (">card MiB", ">tp", ">pp", ">slice MiB", ">cores %", ">wasted MiB", ">nodes")
        sheet = Sheet(f"{name} fits", ("card", *numbered))
        for offer in found:
            ranks = offer.found.ranks
            numbers = (
                offer.card_mib,
                ranks.tp,
                ranks.pp,
                offer.found.slice_mib,
                offer.found.cores,
                offer.wasted_mib,
                offer.nodes,
            )
            sheet.add(offer.card, *(f"{number:,}" for number in numbers))
        sheet.print()
    for one in refused:
        say(f"{one.card} ({one.card_mib:,} MiB): {one.reason}")
