"""Tenants' books and the cards behind them, as tables and as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, Amount, Bound
from kerf.values.units import show
from kerf.wire.accounts import render_status
from kerfctl.report import width
from scheduler.quota.capacity import Capacity
from scheduler.quota.shares import Shares

RESOURCES = {"memory_mib": "memory MiB", "cores": "cores %", "cards": "cards"}
UNITS = {"memory_mib": "MiB", "cores": "% of cores", "cards": "cards"}
KEYS = {"memory_mib": "memoryMiB", "cores": "cores", "cards": "cards"}
NO_LIMIT = "-"


def print_books(books: Iterable[TenantAccount], columns: Sequence[str], title: str) -> None:
    """A row for each resource of each class of each tenant; "-" is no limit. Columns are fields of ClassAccount."""
    table = _table(title, ("tenant", "class", "resource"), columns)
    for book in books:
        name = book.name
        if not book.classes:
            table.add_row(name, "none", "", *("" for _ in columns))
        for entry in book.classes:
            label = f"{entry.model} {entry.mode}"
            for dimension in DIMENSIONS:
                cells = [_cell(entry, column, dimension) for column in columns]
                table.add_row(name, label, RESOURCES[dimension], *cells)
                name = label = ""
    _print(table)


def print_cards(capacity: Capacity, shares: Shares) -> None:
    """What each class gives, what of it is guaranteed to somebody, and the rest that all share."""
    table = _table("Cards", ("class", "resource"), ("cards give", "guaranteed", "rest"))
    rest = dict(shares.rest)
    for card_class, gives in capacity.items():
        left = rest.get(card_class, gives.total)
        label = f"{card_class.model} {card_class.mode.value}, {show(gives.cards)} live"
        for dimension in DIMENSIONS:
            total, free = getattr(gives.total, dimension), getattr(left, dimension)
            table.add_row(label, RESOURCES[dimension], show(total), show(total - free), show(free))
            label = ""
    _print(table)


def book_json(book: TenantAccount) -> dict[str, Any]:
    """A book as the object's status has it, with the tenant's name and namespaces and what is wrong with its file."""
    status = render_status(book, 0)
    del status["observedGeneration"]
    return {"name": book.name, "namespaces": list(book.namespaces), "problems": list(book.problems), **status}


def cards_json(capacity: Capacity, shares: Shares) -> list[dict[str, Any]]:
    """What each class gives and the rest that nobody is guaranteed."""
    rest = dict(shares.rest)
    return [
        {
            "class": key.slug,
            "vendor": key.vendor,
            "model": key.model,
            "mode": key.mode.value,
            "cards": gives.cards,
            "total": _amount_json(gives.total),
            "rest": _amount_json(rest.get(key, gives.total)),
        }
        for key, gives in capacity.items()
    ]


def _amount_json(amount: Amount) -> dict[str, int]:
    return {KEYS[name]: getattr(amount, name) for name in DIMENSIONS}


def amount_text(amount: Amount) -> str:
    """An amount in a sentence."""
    return ", ".join(f"{show(getattr(amount, name))} {UNITS[name]}" for name in DIMENSIONS)


def _cell(entry: ClassAccount, column: str, dimension: str) -> str:
    value: Amount | Bound | None = getattr(entry, column)
    number = None if value is None else getattr(value, dimension)
    return NO_LIMIT if number is None else show(number)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    Console(width=width()).print(table)
