"""What simulate, demo and explain print: the same tables and the same JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerf.values.grant import Grant
from kerf.values.units import show, show_mib


@dataclass(frozen=True, slots=True)
class SliceLine:
    """A slice as the JSON output has it."""

    card: str
    vendor: str
    memory_mib: int
    cores: int


@dataclass(frozen=True, slots=True)
class PodLine:
    """A pod that has its place."""

    namespace: str
    name: str
    phase: str
    node: str
    slices: tuple[SliceLine, ...]


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A pod that has none, and why."""

    namespace: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class CardLine:
    """A card and who holds what of it."""

    node: str
    index: int
    card: str
    model: str
    memory_mib: int
    used_mib: int
    cores: int
    used_cores: int
    slices: int
    state: str
    pods: tuple[str, ...]


def slice_lines(grant: Grant) -> tuple[SliceLine, ...]:
    """Every slice of a grant, container by container."""
    return tuple(
        SliceLine(s.card, s.vendor, s.memory_mib, s.cores) for container in grant.containers for s in container.slices
    )


def render_json(
    pods: Sequence[PodLine],
    refused: Sequence[RefusedLine],
    cards: Sequence[CardLine],
    **more: Any,
) -> str:
    """One JSON object: pods, refused, cards."""
    return json.dumps(
        {
            "pods": [asdict(p) for p in pods],
            "refused": [asdict(r) for r in refused],
            "cards": [asdict(c) for c in cards],
        }
        | more,
        indent=2,
    )


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
    import sys

    return None if sys.stdout.isatty() else 150
