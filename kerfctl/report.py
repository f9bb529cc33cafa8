"""The tables that simulate, demo and inventory print. What they show are the values of `kerf.views`."""

import sys
from collections.abc import Sequence

from kerf.values.units import show, show_mib
from kerf.views.lines import CardLine, PodLine, RefusedLine


def print_cards(cards: Sequence[CardLine], title: str) -> None:
    """The table of cards with a bar of how full each is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name in ("node", "card", "model", "memory", "cores", "slices", "pods"):
        table.add_column(name, justify="right" if name == "slices" else "left", overflow="fold")
    for line in cards:
        share = line.used_mib / line.memory_mib if line.memory_mib else 0
        bar = "█" * round(share * 10) + "░" * (10 - round(share * 10))
        table.add_row(
            line.node,
            f"{line.index}" + (f" [red]{line.state}[/red]" if line.state else ""),
            line.model,
            f"{bar} {show(line.used_mib)} / {show_mib(line.memory_mib)}",
            f"{line.used_cores} / {line.cores} %",
            str(line.slices),
            ", ".join(line.pods) or "-",
        )
    Console(width=width()).print(table)


def print_pods(pods: Sequence[PodLine]) -> None:
    """The table of pods with their slices."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Pods", title_justify="left", header_style="bold", pad_edge=False)
    for name in ("pod", "phase", "node", "slices"):
        table.add_column(name, overflow="fold")
    for line in pods:
        parts = [f"{s.card}: {show_mib(s.memory_mib)}" + (f", {s.cores} %" if s.cores else "") for s in line.slices]
        table.add_row(f"{line.namespace}/{line.name}", line.phase, line.node, "\n".join(parts) or "-")
    Console(width=width()).print(table)


def print_refused(refused: Sequence[RefusedLine]) -> None:
    """One line for each pod that cannot run."""
    from rich.console import Console

    console = Console(width=width(), highlight=False)
    for line in refused:
        console.print(f"[yellow]✗[/yellow] {line.namespace}/{line.name}: {line.reason}", soft_wrap=True)


def width() -> int | None:
    """The terminal's width; a pipe or a log gets wide lines, so that nothing is cut."""
    return None if sys.stdout.isatty() else 150
