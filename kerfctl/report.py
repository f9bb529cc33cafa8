"""What the CLI prints: lines, and tables. Everything that comes from a cluster or a file is data, never markup.

No other module of the CLI writes to the terminal, progress of `kerf demo` and JSON apart (`tests/arch`).
"""

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from kerf.values.device import Mode
from kerf.values.units import show, show_mib
from kerf.views.lines import CardLine, PodLine, RefusedLine

Cell = str | tuple[str, str]
"""A cell's text, or a text and a text in red behind it."""
_KEPT = {"\n", "\t"}


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print lines. Control characters in them are shown, not sent to the terminal."""
    for line in lines:
        print(plain(line), file=file, flush=file is not None)


def warn(*lines: str) -> None:
    """Print lines to standard error."""
    say(*lines, file=sys.stderr)


def clear() -> None:
    """Empty the terminal; no-op for a pipe or a file."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().clear()


def plain(text: str) -> str:
    """A text without control characters: an escape in a name becomes visible instead of moving the cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else repr(char)[1:-1] for char in text)


class Sheet:
    """A table. `columns` are headings; one that begins with ">" is right-aligned."""

    def __init__(self, title: str, columns: Iterable[str]) -> None:
        from rich.table import Table
        from rich.text import Text

        self._table = Table(title=Text(plain(title)), title_justify="left", header_style="bold", pad_edge=False)
        for name in columns:
            right = name.startswith(">")
            heading = Text(plain(name.removeprefix(">")))
            self._table.add_column(heading, justify="right" if right else "left", overflow="fold")

    def add(self, *cells: Cell) -> None:
        """One row."""
        from rich.text import Text

        row = []
        for cell in cells:
            text, red = (cell, "") if isinstance(cell, str) else cell
            made = Text(plain(text), overflow="fold")
            row.append(made.append(f" {plain(red)}", style="red") if red else made)
        self._table.add_row(*row)

    def add_line(self) -> None:
        """A line between the rows before and the rows after it."""
        self._table.add_section()

    def print(self) -> None:
        """Write it to standard output."""
        from rich.console import Console

        Console(width=width(), markup=False, emoji=False, highlight=False).print(self._table)


def print_cards(cards: Sequence[CardLine], title: str) -> None:
    """The table of cards with a bar of how full each is."""
    modes = any(line.mode != Mode.SHARED.word or line.native for line in cards)
    columns = ("node", "card", "model", *(("mode",) if modes else ()), "memory", "cores", ">slices", "pods")
    sheet = Sheet(title, columns)
    for line in cards:
        share = line.used_mib / line.memory_mib if line.memory_mib else 0
        filled = min(round(share * 10), 10)
        sheet.add(
            line.node,
            (str(line.index), line.state),
            line.model,
            *(((line.mode, f"memory: {line.backend}") if line.native else line.mode,) if modes else ()),
            f"{'█' * filled}{'░' * (10 - filled)} {show(line.used_mib)} / {show_mib(line.memory_mib)}",
            f"{line.used_cores} / {line.cores} %",
            str(line.slices),
            ", ".join(line.pods) or "-",
        )
    sheet.print()
    say(*(f"{line.node}, card {line.index}: in mode {line.mode}: {line.mode_note}" for line in cards if line.mode_note))


def print_parts(cards: Sequence[CardLine]) -> None:
    """The table of cards of fixed sizes: what lies on each, and what would still fit. Nothing if there are none."""
    divided = [line for line in cards if line.parts or line.free]
    if not divided:
        return
    sheet = Sheet("Instances and templates", ("node", "card", "holds", "free, each size by itself"))
    for line in divided:
        free = "\n".join(map(str, line.free))
        sheet.add(line.node, str(line.index), "\n".join(line.parts) or "-", free or "nothing")
    sheet.print()


def print_faults(cards: Sequence[CardLine]) -> None:
    """One line for each card that has a fault."""
    say(*(f"! {line.node}, card {line.index} ({line.card}) is {line.fault}" for line in cards if line.fault))


def print_pods(pods: Sequence[PodLine]) -> None:
    """The table of pods with their slices."""
    sheet = Sheet("Pods", ("pod", "phase", "node", "slices"))
    for line in pods:
        parts = [f"{s.card}: {show_mib(s.memory_mib)}" + (f", {s.cores} %" if s.cores else "") for s in line.slices]
        sheet.add(f"{line.namespace}/{line.name}", line.phase, line.node, "\n".join(parts) or "-")
    sheet.print()


def print_refused(refused: Sequence[RefusedLine]) -> None:
    """One line for each pod that cannot run."""
    say(*(f"✗ {line.namespace}/{line.name}: {line.reason}" for line in refused))


def width() -> int | None:
    """The terminal's width; a pipe or a log gets wide lines, so that nothing is cut."""
    return None if sys.stdout.isatty() else 150
