"""The tables of tenants' accounts and of the cards behind them. What they show are the values of `kerf.views`."""

from collections.abc import Iterable, Sequence

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, Amount, Bound
from kerf.values.units import show
from kerf.views.tenants import ClassLine
from kerfctl.report import Sheet

RESOURCES = {"memory_mib": "memory MiB", "cores": "cores %", "cards": "cards"}
UNITS = {"memory_mib": "MiB", "cores": "% of cores", "cards": "cards"}
NO_LIMIT = "-"


def print_accounts(accounts: Iterable[TenantAccount], columns: Sequence[str], title: str) -> None:
    """A row for each resource of each class of each tenant; "-" is no limit. Columns are fields of ClassAccount."""
    sheet = _sheet(title, ("tenant", "class", "resource"), columns)
    for account in accounts:
        name = account.name
        if not account.classes:
            sheet.add(name, "none", "", *("" for _ in columns))
        for entry in account.classes:
            label = f"{entry.model} {entry.mode}"
            for dimension in DIMENSIONS:
                cells = [_cell(entry, column, dimension) for column in columns]
                sheet.add(name, label, RESOURCES[dimension], *cells)
                name = label = ""
    sheet.print()


def print_classes(lines: Iterable[ClassLine]) -> None:
    """What each class gives, what of it is guaranteed to tenants, and the rest that all share."""
    sheet = _sheet("Cards", ("class", "resource"), ("cards give", "guaranteed", "rest"))
    for line in lines:
        label = f"{line.card_class.model} {line.card_class.mode.value}, {show(line.cards)} live"
        for dimension in DIMENSIONS:
            total, free = getattr(line.total, dimension), getattr(line.rest, dimension)
            sheet.add(label, RESOURCES[dimension], show(total), show(total - free), show(free))
            label = ""
    sheet.print()


def amount_text(amount: Amount) -> str:
    """An amount in a sentence."""
    return ", ".join(f"{show(getattr(amount, name))} {UNITS[name]}" for name in DIMENSIONS)


def _cell(entry: ClassAccount, column: str, dimension: str) -> str:
    value: Amount | Bound | None = getattr(entry, column)
    number = None if value is None else getattr(value, dimension)
    return NO_LIMIT if number is None else show(number)


def _sheet(title: str, words: Sequence[str], numbers: Sequence[str]) -> Sheet:
    return Sheet(title, (*words, *(f">{name}" for name in numbers)))
