"""`kerf model fit`: which cards of a fleet hold a model, in what split, and at what price."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerfctl.arguments import add_cluster_arguments, add_prices_argument
from kerfctl.model.arguments import add_ask, ask_of, readings
from kerfctl.model.lessons import add_learned, lessons_for

if TYPE_CHECKING:
    from decimal import Decimal

    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`fit`."""
    parser = verbs.add_parser("fit", help="which cards of this fleet, in what split, the cheapest first")
    add_ask(parser)
    add_cluster_arguments(parser)
    add_learned(parser, kubeconfig=False)
    parser.add_argument("--fleet", metavar="FILE", help="a fleet file (examples/fleets) instead of the cluster")
    add_prices_argument(parser)
    parser.add_argument("--supply", choices=("owned", "rented"), default="owned", help="whose prices; default: owned")
    parser.add_argument("--file", action="append", metavar="FILE", help="read this snapshot instead of the cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the fleet, estimate on each kind of card, print. Exits 1 where nothing fits."""
    from kerf.config.prices import read_prices
    from kerf.sizing.fit import offers
    from kerf.sizing.request import checked
    from kerfctl.model.fleets import cluster_nodes, file_nodes
    from kerfctl.model.sources import load_row
    from kerfctl.report import say

    ask, row = checked(ask_of(args)), load_row(args.model)
    model = row.model
    nodes = file_nodes(args.fleet, args.vendors) if args.fleet else cluster_nodes(args)
    prices = read_prices(args.prices)

    def price(card: str) -> "Decimal | None":
        row = prices.of(card, args.supply)
        return row.per_hour if row else None

    found, refused = offers(model, ask, nodes, price, lessons_for(args, row.name))
    if args.json:
        print(json.dumps({
            "offers": [_offer_json(offer) for offer in found],
            "refused": [{"card": one.card, "card_mib": one.card_mib, "reason": one.reason} for one in refused],
        }))  # fmt: skip
    else:
        _print(args.model, found, refused, prices.currency)
        say(*readings(args))
    return 0 if found else 1


def _offer_json(offer: Any) -> dict[str, Any]:
    ranks = offer.found.ranks
    return {
        "card": offer.card,
        "size": offer.size.name,
        "card_mib": offer.card_mib,
        "tp": ranks.tp,
        "pp": ranks.pp,
        "cards": ranks.cards,
        "slice_mib": offer.found.slice_mib,
        "cores": offer.found.cores,
        "wasted_mib": offer.wasted_mib,
        "nodes": offer.nodes,
        "price": None if offer.price is None else str(offer.price),
    }


def _print(name: str, found: list[Any], refused: list[Any], currency: str) -> None:
    from kerfctl.report import Sheet, say

    if found:
        numbered = (
            ">card MiB",
            ">tp",
            ">pp",
            ">slice MiB",
            ">cores %",
            ">wasted MiB",
            ">nodes",
            f">{currency} an hour",
        )
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
            price = "not known" if offer.price is None else f"{offer.price:.2f}"
            named = f"{offer.card}, {offer.size.name}" if offer.size.name else offer.card
            sheet.add(named, *(f"{number:,}" for number in numbers), price)
        sheet.print()
    if not found and not refused:
        say("no node has a usable card")
    for one in refused:
        say(f"{one.card} ({one.card_mib:,} MiB): {one.reason}")
