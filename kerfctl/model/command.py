"""`kerf model estimate|fit|render|validate|publish|deploy|learned`, each verb in a file of its own."""

import argparse
from typing import TYPE_CHECKING

from kerfctl.model import deploy, estimate, fit, learned, publish, render, validate

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

ABOUT = (
    "How large a slice a model needs, which cards hold it, and the pod that asks for it. docs/models.md explains it."
)


def add_parser(verbs: "Verbs") -> None:
    """`model` and its verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser("model", help="the slice that a model needs", description=ABOUT)
    inner = parser.add_subparsers(metavar="estimate|fit|render|validate|publish|deploy|learned", required=True)
    for verb in (estimate, fit, render, validate, publish, deploy, learned):
        verb.add_parser(inner)
