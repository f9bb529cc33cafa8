"""`kerf model validate`: whether the entries of a model catalogue can run as they are written."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`validate`."""
    parser = verbs.add_parser("validate", help="whether ModelHub's entries can run as they are, and what would")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="metadata.yaml files, folders of them, a merged index.yaml"
    )
    parser.add_argument("--card", default="", metavar="NAME", help="also: does each fit this card")
    parser.add_argument("--runtime-version", default="", metavar="V", help="default: the version whose rules are known")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge every entry. Exits 1 where one cannot run."""
    from kerf.catalogue import shipped
    from kerf.sizing.cards import card_named
    from kerf.sizing.verdicts import judge_all
    from kerfctl.model.sources import spec_documents
    from kerfctl.report import say

    if args.card:
        card_named(args.card)
    found = judge_all(spec_documents(args.files), shipped().model, args.card, args.runtime_version)
    if args.json:
        print(json.dumps([{"name": one.name, "ok": one.ok, "reason": one.reason or None} for one in found]))
    else:
        for one in found:
            say(f"{'✓' if one.ok else '✗'} {one.name}{': ' if one.reason else ''}{one.reason}")
    return 0 if all(one.ok for one in found) else 1
