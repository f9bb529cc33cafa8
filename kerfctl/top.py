"""`kerf top`: what containers use of their slices now, as the node monitors see it."""

import argparse
import json
from typing import Any

from kerf.values.units import show
from kerfctl.errors import CliError

LARGEST_ANSWER = 16 << 20
"""Bytes; a node's answer is a few kilobytes."""


def add_parser(verbs: Any) -> None:
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
    """Ask every node and print. Exit status 1 when some container used its card past the limiter."""
    nodes = {url: _ask(url) for url in args.urls}
    if args.json:
        print(json.dumps(nodes, indent=2))
    else:
        _print(nodes)
    return 1 if any(node["overuse"] for node in nodes.values()) else 0


def _ask(url: str) -> dict[str, Any]:
    from urllib.error import URLError
    from urllib.request import urlopen

    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise CliError(f"{url}: write http://HOST:PORT")
    try:
        with urlopen(f"{address.rstrip('/')}/top", timeout=10) as answer:  # noqa: S310 (http and https only, above)
            found = json.loads(answer.read(LARGEST_ANSWER))
    except (URLError, OSError, ValueError) as error:
        raise CliError(f"{url}: no node monitor answers ({error})") from error
    if not isinstance(found, dict) or found.get("v") != 1:
        raise CliError(f"{url}: answers in a format that this kerf does not know; use the same version")
    return found


def _print(nodes: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Slices", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("pod", "container", "card", "used / limit MiB", "peak", "refused", "busy / cores %", "processes"):
        table.add_column(name, overflow="fold")
    for node in nodes.values():
        for row in node["containers"]:
            limit = show(row["limit_mib"]) if row["limit_mib"] is not None else "no limit"
            mark = " [red]bypassed[/red]" if row["bypassed"] else ""
            table.add_row(
                f"{row.get('namespace', '')}/{row.get('pod', '')}",
                str(row.get("container", "")),
                str(row["card"]),
                f"{show(row['used_mib'])} / {limit}{mark}",
                show(row["peak_mib"]),
                show(row["denied"]),
                f"{row['busy_percent']} / {row['cores'] or 'any'}",
                ", ".join(f"{p['command']} ({p['pid']})" for p in row["processes"]) or "-",
            )
    console = Console()
    console.print(table)
    for node in nodes.values():
        for sentence in node["overuse"]:
            console.print(f"[yellow]✗[/yellow] {sentence}", highlight=False, soft_wrap=True)
