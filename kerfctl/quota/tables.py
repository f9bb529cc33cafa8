"""The tables of tenants' accounts and of the cards behind them. What they show are the values of `kerf.views`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, Amount, Bound
from kerf.values.units import show
from kerf.views.tenants import ClassLine
from kerfctl.report import width

if TYPE_CHECKING:
    from rich.table import Table

RESOURCES = {"memory_mib": "memory MiB", "cores": "cores %", "cards": "cards"}
UNITS = {"memory_mib": "MiB", "cores": "% of cores", "cards": "cards"}
NO_LIMIT = "-"


def print_accounts(accounts: Iterable[TenantAccount], columns: Sequence[str], title: str) -> None:
    """A row for each resource of each class of each tenant; "-" is no limit. Columns are fields of ClassAccount."""
    table = _table(title, ("tenant", "class", "resource"), columns)
    for account in accounts:
        name = account.name
        if not account.classes:
            table.add_row(name, "none", "", *("" for _ in columns))
        for entry in account.classes:
            label = f"{entry.model} {entry.mode}"
            for dimension in DIMENSIONS:
                cells = [_cell(entry, column, dimension) for column in columns]
                table.add_row(name, label, RESOURCES[dimension], *cells)
                name = label = ""
    _print(table)


def print_classes(lines: Iterable[ClassLine]) -> None:
    """What each class gives, what of it is guaranteed to tenants, and the rest that all share."""
    table = _table("Cards", ("class", "resource"), ("cards give", "guaranteed", "rest"))
    for line in lines:
        label = f"{line.card_class.model} {line.card_class.mode.value}, {show(line.cards)} live"
        for dimension in DIMENSIONS:
            total, free = getattr(line.total, dimension), getattr(line.rest, dimension)
            table.add_row(label, RESOURCES[dimension], show(total), show(total - free), show(free))
            label = ""
    _print(table)


def amount_text(amount: Amount) -> str:
    """An amount in a sentence."""
    return ", ".join(f"{show(getattr(amount, name))} {UNITS[name]}" for name in DIMENSIONS)


def _cell(entry: ClassAccount, column: str, dimension: str) -> str:
    value: Amount | Bound | None = getattr(entry, column)
    number = None if value is None else getattr(value, dimension)
    return NO_LIMIT if number is None else show(number)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    Console(width=width()).print(table)
