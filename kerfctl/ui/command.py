"""`kerf ui`: open the scheduler's live page in a browser."""

import argparse
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

ABOUT = """Open the scheduler's live page through a port-forward to the replica that leads, and sign in with your own
token. Where your kubeconfig has a client certificate instead, a token of a ServiceAccount is asked for: one that sees
everything if you may list the pods of all namespaces, else the one that you name. Your token goes to the page alone,
which keeps none."""


def add_parser(verbs: "Verbs") -> None:
    """`ui`."""
    parser = verbs.add_parser("ui", help="open the live page in a browser", description=ABOUT)
    add_cluster_arguments(parser)
    parser.add_argument("--namespace", default="kerf-system", help="the release's namespace (default: kerf-system)")
    parser.add_argument(
        "--port", type=int, default=0, help="port on this machine (default: the same each time, else any)"
    )
    parser.add_argument("--page-port", type=int, default=9092, help="the page's port in the pod (default: 9092)")
    parser.add_argument("--url", metavar="http://HOST:PORT", help="the page's address, instead of a port-forward")
    parser.add_argument(
        "--service-account",
        metavar="NAMESPACE/NAME",
        help="whose token signs you in (default: your own token, else NAMESPACE/kerf-page-viewer of the release)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only say where the page is")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open it and stay until interrupted."""
    from kerfctl.ui.open import open_page

    return open_page(args)
