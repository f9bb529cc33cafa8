"""The words of `kerf bill`. Light: the verb imports what it needs."""

import argparse
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

FIELDS = ("tenant", "namespace", "workload", "model", "class", "cluster")


def add_parser(verbs: "Verbs") -> None:
    """`bill`."""
    words = "what was used of the cards, by tenant, workload, model …, and what it cost"
    parser = verbs.add_parser("bill", help=words, description=f"{words}. Counts whole hours in UTC.")
    add_cluster_arguments(parser)
    parser.add_argument("--since", default="7d", metavar="TIME", help="7d, 36h, or a day or moment in UTC; default: 7d")
    parser.add_argument("--until", metavar="TIME", help="the same; default: now")
    parser.add_argument(
        "--by",
        metavar="FIELDS",
        help=f"sum by these, of {','.join(FIELDS)}; or, as gateways report, of key,user,model,gateway",
    )
    parser.add_argument("--prices", metavar="FILE", help="compute costs again from this price list")
    parser.add_argument("--file", action="append", metavar="FILE", help="read these TenantUsages instead of a cluster")
    parser.add_argument("--cache", metavar="FILE", help="local cache (SQLite); default: in the user's cache folder")
    parser.add_argument("--no-cache", action="store_true", help="read everything from the cluster")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--csv", action="store_true", help="comma-separated values; the last line is what is idle")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from kerfctl.bill.run import run_bill

    return run_bill(args)
