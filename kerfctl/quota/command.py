"""`kerf quota plan|apply|status`: plan what tenants get of the cards, write it, and compare it with what they hold."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

ABOUT = "Tenant quota from live cards: one TenantQuota file a tenant. docs/quota.md explains the files."


def add_parser(verbs: "Verbs") -> None:
    """`quota` and its three verbs."""
    parser = verbs.add_parser("quota", help="what tenants are promised, get, and hold of the cards", description=ABOUT)
    inner = parser.add_subparsers(metavar="plan|apply|status", required=True)
    plan = _verb(inner, "plan", "what tenants would get, and what would be written", _plan)
    apply = _verb(inner, "apply", "write the tenants' objects and, with engine kueue, Kueue's", _apply)
    status = _verb(inner, "status", "guaranteed, borrowed, used, pending with reasons, and drift", _status)
    for each in (plan, apply):
        each.add_argument(
            "-f", dest="tenants", action="append", required=True, metavar="FILE", help="tenant file or folder of them"
        )
        each.add_argument("--prune", action="store_true", help="delete TenantQuotas that are not in the files")
    for each in (plan, status):
        each.add_argument("--file", action="append", metavar="FILE", help="read this snapshot instead of the cluster")
        each.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def _verb(verbs: "Verbs", name: str, words: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=words)
    add_cluster_arguments(parser)
    parser.set_defaults(run=run)
    return parser


def _plan(args: argparse.Namespace) -> int:
    from kerfctl.quota.plan import run_plan

    return run_plan(args)


def _apply(args: argparse.Namespace) -> int:
    from kerfctl.quota.apply import run_apply

    return run_apply(args)


def _status(args: argparse.Namespace) -> int:
    from kerfctl.quota.status import run_status

    return run_status(args)
