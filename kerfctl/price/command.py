"""The words of `kerf price`. Light: each verb imports what it needs."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`price` and its verbs."""
    parser = verbs.add_parser("price", help="what an hour of a card costs")
    inner = parser.add_subparsers(metavar="cards", required=True)
    cards = inner.add_parser("cards", help="the price list, or the price of one model of card")
    cards.add_argument("model", nargs="?", help='a model of card, such as H100 or "NVIDIA L4"')
    cards.add_argument("--prices", metavar="FILE", help="your price list; default: the shipped one")
    cards.add_argument("--supply", choices=("owned", "rented"), default="owned", help="default: owned")
    cards.add_argument("--region", metavar="NAME", help="the region of rented cards")
    cards.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    cards.set_defaults(run=_cards)


def _cards(args: argparse.Namespace) -> int:
    from kerfctl.price.cards import run_cards

    return run_cards(args)
