"""`kerf model render`: the pod for a model, as YAML."""

import argparse
from typing import TYPE_CHECKING

from kerfctl.model.arguments import add_ask, add_card
from kerfctl.model.lessons import add_learned
from kerfctl.model.workloads import add_wanted, estimated, objects_of, wanted_of

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`render`."""
    parser = verbs.add_parser("render", help="a Deployment or LeaderWorkerSet with the slice and the arguments for it")
    add_ask(parser)
    add_card(parser)
    add_learned(parser, kubeconfig=True)
    add_wanted(parser)
    parser.add_argument("--service", action="store_true", help="print its Service too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, render, print."""
    import yaml

    from kerfctl.report import say

    found = estimated(args)
    documents = objects_of(found, wanted_of(args))[: None if args.service else 1]
    say(yaml.safe_dump_all(documents, sort_keys=False, width=120).rstrip())
    return 0
