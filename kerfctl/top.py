"""`kerf top`: what containers use of their slices now, as the node monitors measure it."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from kerf.values.units import show
from kerf.views.use import ORDERS, UseLine, by_model, ordered, use_lines
from kerf.wire.json import Json
from kerf.wire.top import NodeTop, top_object
from kerfctl.arguments import add_cluster_arguments
from kerfctl.errors import CliError
from kerfctl.report import Cell, Sheet, clear, say, warn

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

T = TypeVar("T")
SHORTEST_S, LONGEST_S = 1.0, 86_400.0


def add_parser(verbs: "Verbs") -> None:
    """`top`."""
    parser = verbs.add_parser("top", help="use against grant per container, from the nodes' monitors")
    parser.add_argument(
        "urls",
        nargs="*",
        metavar="URL",
        help="a device plugin's --metrics-bind, http://HOST:PORT; default: every node, through the API server",
    )
    add_cluster_arguments(parser)
    parser.add_argument("-n", "--namespace", metavar="NAME", help="only pods of this namespace")
    parser.add_argument("--tenant", metavar="NAME", help="only pods of this tenant's namespaces")
    parser.add_argument("--node", metavar="NAME", help="only this node")
    parser.add_argument("--sort", choices=ORDERS, default="pod", help="the greatest first; default: by pod")
    parser.add_argument("--by-model", action="store_true", help="one line for each model instead of each container")
    parser.add_argument("--watch", nargs="?", type=float, const=2.0, metavar="SECONDS", help="again and again")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the nodes."""

    nodes: Mapping[str, NodeTop]
    silent: Mapping[str, str] = field(default_factory=dict)
    pods: Sequence[Json] = ()
    tenants: Mapping[str, str] = field(default_factory=dict)


def run(args: argparse.Namespace) -> int:
    """Read every node and print. Exit status 1 when some container uses its card past the limiter, or a node is silent.

    With --watch, until it is interrupted.
    """
    if args.watch is not None and not SHORTEST_S <= args.watch <= LONGEST_S:
        raise CliError(f"--watch {args.watch}: write seconds from {SHORTEST_S:.0f} to {LONGEST_S:,.0f}")
    while True:
        status = _once(args)
        if args.watch is None:
            return status
        time.sleep(args.watch)


def _once(args: argparse.Namespace) -> int:
    look = _look(args)
    lines = [line for line in use_lines(look.nodes, look.pods, look.tenants) if _wanted(line, args)]
    kept = {(line.node, id(line.row)) for line in lines}
    nodes = {
        name: replace(top, containers=tuple(row for row in top.containers if (name, id(row)) in kept))
        for name, top in look.nodes.items()
    }
    if args.watch is not None and not args.json:
        clear()
    if args.json:
        print(json.dumps({name: top_object(top) for name, top in nodes.items()}, indent=None if args.watch else 2))
    elif args.by_model:
        _print_models(lines)
    else:
        _print(ordered(lines, args.sort), len(look.nodes) > 1)
    sentences = [sentence for top in nodes.values() for sentence in top.overuse]
    if not args.json:
        say(*(f"✗ {sentence}" for sentence in sentences))
    for node, why in look.silent.items():
        warn(f"kerf: node {node}: its monitor does not answer ({why})")
    return 1 if sentences or look.silent else 0


def _look(args: argparse.Namespace) -> Look:
    from kerfctl.monitors import of_cluster, of_urls

    if args.urls:
        if args.tenant:
            raise CliError("--tenant: tenants are the cluster's; leave the URLs out")
        if args.by_model:
            raise CliError("--by-model: pods say what they serve in the cluster; leave the URLs out")
        return Look(_only(of_urls(args.urls), args.node))
    from kerf.kube import paths
    from kerf.wire.quota import KIND, PATH
    from kerfctl import cluster

    kube = cluster.connect_to(args)
    nodes, silent = of_cluster(kube)
    tenants = _tenants(cluster.list_or_none(kube, PATH, KIND) or ())
    if args.tenant and args.tenant not in tenants.values():
        raise CliError(f"--tenant {args.tenant}: no TenantQuota of this name has namespaces")
    pods = cluster.list_all(kube, paths.PODS, "Pod")
    if args.node not in (None, *nodes, *silent):
        raise CliError(f"--node {args.node}: no device plugin of Kerf runs on a node of this name")
    return Look(_only(nodes, args.node), _only(silent, args.node), pods, tenants)


def _only(found: Mapping[str, T], node: str | None) -> dict[str, T]:
    return {name: each for name, each in found.items() if node in (None, name)}


def _tenants(items: Sequence[Json]) -> dict[str, str]:
    """By namespace; of several tenants that claim one the first by name has it, as for quota."""
    found: dict[str, str] = {}
    for item in sorted(items, key=lambda item: str(item["metadata"]["name"])):
        spaces = item.get("spec", {}).get("namespaces")
        for space in spaces if isinstance(spaces, list) else ():
            found.setdefault(str(space), str(item["metadata"]["name"]))
    return found


def _wanted(line: UseLine, args: argparse.Namespace) -> bool:
    return args.namespace in (None, line.row.namespace) and args.tenant in (None, line.tenant)


def _print(lines: Sequence[UseLine], several: bool) -> None:
    first = ("node", "pod") if several else ("pod",)
    estimated = any(line.estimate_mib is not None for line in lines)
    more = ("estimate",) if estimated else ()
    amounts = ("used / limit MiB", "peak", "over-ask", *more)
    columns = (*first, "container", "card", *amounts, "refused", "busy / cores %", "processes")
    sheet = Sheet("Slices", columns)
    for line in lines:
        sheet.add(*((line.node,) if several else ()), *_cells(line, estimated))
    sheet.print()


def _print_models(lines: Sequence[UseLine]) -> None:
    sheet = Sheet("Models", ("model", ">slices", ">granted MiB", ">used", ">peak", ">over-ask"))
    for one in by_model(lines):
        sheet.add(one.model, *map(show, (one.slices, one.granted_mib, one.used_mib, one.peak_mib, one.over_ask_mib)))
    sheet.print()


def _cells(line: UseLine, estimated: bool) -> tuple[Cell, ...]:
    row = line.row
    limit = "no limit" if row.limit_mib is None else show(row.limit_mib)
    estimate = ("-" if line.estimate_mib is None else show(line.estimate_mib),) if estimated else ()
    return (
        f"{row.namespace}/{row.pod}",
        row.container,
        row.card,
        (f"{show(row.used_mib)} / {limit}", "bypassed" if row.bypassed else ""),
        show(row.peak_mib),
        "-" if line.over_ask_mib is None else show(line.over_ask_mib),
        *estimate,
        show(row.denied),
        f"{row.busy_percent} / {row.cores or 'any'}",
        ", ".join(f"{process.command} ({process.pid})" for process in row.processes) or "-",
    )
