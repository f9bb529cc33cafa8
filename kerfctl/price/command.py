"""The words of `kerf price`. Light: each verb imports what it needs."""

import argparse
from typing import TYPE_CHECKING

from kerf.values.supply import Supply
from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`price` and its verbs."""
    parser = verbs.add_parser("price", help="what an hour of a card and a million tokens of a model cost")
    parser.set_defaults(run=_cards, model=None, prices=None, supply=None, region=None, json=False)
    inner = parser.add_subparsers(metavar="cards|models", help="without either: cards")
    models = inner.add_parser("models", help="what a million tokens of each model cost, as measured")
    add_cluster_arguments(models)
    models.add_argument("--file", action="append", metavar="FILE", help="read these TenantUsages instead of a cluster")
    models.add_argument("--usage", metavar="FILE", help="a gateway's usage, JSON lines: attribute it to keys and users")
    models.add_argument("--since", default="1h", metavar="TIME", help="with --usage: the span it covers; default: 1h")
    models.add_argument("--until", metavar="TIME", help="with --usage: its end; default: now")
    form = models.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--litellm", action="store_true", help="model_info for LiteLLM's model_list, as YAML")
    models.set_defaults(run=_models)
    cards = inner.add_parser("cards", help="the price list, or the price of one model of card")
    cards.add_argument("model", nargs="?", help='a model of card, such as H100 or "NVIDIA L4"')
    cards.add_argument("--prices", metavar="FILE", help="your price list; default: the shipped one")
    cards.add_argument(
        "--supply", choices=[each.value for each in Supply], help="for a model, default: owned; else only rows of it"
    )
    cards.add_argument("--region", metavar="NAME", help="the region of the card; without a model, only its rows")
    cards.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    cards.set_defaults(run=_cards)


def _models(args: argparse.Namespace) -> int:
    from kerfctl.price.models import run_models

    return run_models(args)


def _cards(args: argparse.Namespace) -> int:
    from kerfctl.price.cards import run_cards

    return run_cards(args)
