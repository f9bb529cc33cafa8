"""`kerf top`: what containers use of their slices now, as the node monitors measure it."""

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kerf.values.units import show
from kerf.wire.errors import WireError
from kerf.wire.top import NodeTop, TopContainer, parse_top, top_object
from kerfctl.errors import CliError
from kerfctl.report import Cell, Sheet, say

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

LARGEST_ANSWER = 16 << 20
"""Bytes; a node's answer is a few kilobytes."""


def add_parser(verbs: "Verbs") -> None:
    """`top`."""
    parser = verbs.add_parser("top", help="use against grant per container, from the nodes' monitors")
    parser.add_argument(
        "urls",
        nargs="+",
        metavar="URL",
        help="a device plugin's --metrics-bind, http://HOST:PORT; `kubectl port-forward` makes one of a pod",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read every node and print. Exit status 1 when some container uses its card past the limiter."""
    nodes = {url: _read(url) for url in args.urls}
    if args.json:
        print(json.dumps({url: top_object(node) for url, node in nodes.items()}, indent=2))
    else:
        _print(nodes.values())
    return 1 if any(node.overuse for node in nodes.values()) else 0


def _read(url: str) -> NodeTop:
    from urllib.error import URLError
    from urllib.request import urlopen

    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise CliError(f"{url}: write http://HOST:PORT")
    try:
        with urlopen(f"{address.rstrip('/')}/top", timeout=10) as answer:  # noqa: S310 (http and https only, above)
            text = answer.read(LARGEST_ANSWER).decode()
    except (URLError, OSError, ValueError) as error:
        raise CliError(f"{url}: no node monitor answers ({error})") from error
    try:
        return parse_top(text)
    except WireError as error:
        raise CliError(f"{url}: the answer is not a node monitor's, or of another version of kerf ({error})") from error


def _print(nodes: Iterable[NodeTop]) -> None:
    found = list(nodes)
    columns = ("pod", "container", "card", "used / limit MiB", "peak", "refused", "busy / cores %", "processes")
    sheet = Sheet("Slices", columns)
    for node in found:
        for container in node.containers:
            sheet.add(*_cells(container))
    sheet.print()
    for node in found:
        say(*(f"✗ {sentence}" for sentence in node.overuse))


def _cells(row: TopContainer) -> tuple[Cell, ...]:
    limit = "no limit" if row.limit_mib is None else show(row.limit_mib)
    return (
        f"{row.namespace}/{row.pod}",
        row.container,
        row.card,
        (f"{show(row.used_mib)} / {limit}", "bypassed" if row.bypassed else ""),
        show(row.peak_mib),
        show(row.denied),
        f"{row.busy_percent} / {row.cores or 'any'}",
        ", ".join(f"{process.command} ({process.pid})" for process in row.processes) or "-",
    )
