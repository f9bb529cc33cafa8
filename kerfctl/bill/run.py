"""`kerf bill`: read, sum, print."""

import argparse
import csv
import io
import json
import time
from decimal import ROUND_HALF_UP, Decimal

from kerf.config.prices import read_prices
from kerf.metering.attribute import FIELDS as KEY_FIELDS
from kerf.metering.bill import FIELDS, Bill, BillLine, bill
from kerf.values.units import show
from kerf.values.usage import HOUR_MS, hour_of
from kerf.views.bills import bill_json
from kerf.wire.usage import moment_text, plain
from kerfctl.bill.keys import run_keys
from kerfctl.bill.missing import missing_hours
from kerfctl.bill.read import records_of
from kerfctl.bill.span import parse_span, shared_hours
from kerfctl.errors import CliError
from kerfctl.report import Sheet, say, warn

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 (some spreadsheets read the wide ones too)
CENT = Decimal("0.01")
AMOUNTS = ("vgpu_seconds", "mib_seconds", "core_seconds", "cost")


def run_bill(args: argparse.Namespace) -> int:
    """Read and print. Exit status 1 when something is not known, was left out or has no price."""
    now = time.time_ns() // 1_000_000
    since, until = parse_span(args.since, args.until, now)
    warn(*(f"kerf: {note}" for note in shared_hours(args.since, args.until, now)))
    keys = _keys(args)
    if keys:
        return run_keys(args, keys, records_of(args, since, until), (since, until))
    by = _fields(args.by)
    prices = read_prices(args.prices) if args.prices else None
    records = records_of(args, since, until)
    found = bill(records, by, prices)
    if args.json:
        print(json.dumps(bill_json(found), indent=2))
    elif args.csv:
        _csv(found)
    else:
        print_bill(found, by, _hours(since, until))
    lacks = missing_hours(records, since, until, now)
    nothing = () if records else ("no records: is metering on (metering.enabled)?",)
    warn(*(f"kerf: {note}" for note in (*found.notes, *lacks.holes, *lacks.ends, *nothing)))
    return 1 if found.notes or lacks.holes or records.left_out or not records else 0


def _keys(args: argparse.Namespace) -> tuple[str, ...]:
    """The fields, where they are those of gateways' reports; `model` is in both. Raises CliError for a mixture."""
    words = tuple(word.strip() for word in (args.by or "").split(",") if word.strip())
    if not set(words) & (set(KEY_FIELDS) - {"model"}):
        return ()
    odd = next((word for word in words if word not in KEY_FIELDS), None)
    if odd:
        raise CliError(f"--by {odd}: gateways report only {', '.join(KEY_FIELDS)}; ask for {odd} in a bill of its own")
    if args.csv or args.prices:
        raise CliError("--by key: a bill of gateways' reports has neither --csv nor --prices; use --json")
    return words


def _fields(text: str | None) -> tuple[str, ...]:
    if text is None:
        return FIELDS
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    unknown = next((word for word in words if word not in FIELDS), None)
    if unknown or not words:
        raise CliError(f"--by {unknown or repr(text)}: write some of {', '.join(FIELDS)}, with commas between them")
    return words


def _csv(found: Bill) -> None:
    rows: list[tuple[str, ...]] = [(*FIELDS, *AMOUNTS, "currency")]
    for line in found.lines:
        amounts = (plain(getattr(line, name)) for name in AMOUNTS)
        rows.append((*(_cell(word) for word in line.key), *amounts, found.currency))
    rows.append(("(idle)", *("" for _ in FIELDS[1:]), "", "", "", plain(found.idle_cost), found.currency))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    say(text.getvalue().rstrip("\n"))


def _cell(name: str) -> str:
    """A name as text: a spreadsheet would compute what begins with these signs. Amounts stay numbers."""
    return f"'{name}" if name.startswith(FORMULAS) else name


def print_bill(found: Bill, by: tuple[str, ...], span: str) -> None:
    """The table, and that allocated + idle is what the cards cost: to the cent, as printed."""
    shown = [name for name in FIELDS if name in by]
    sheet = Sheet(f"Bill, {span}", (*shown, ">GPU hours", ">GiB hours", ">core hours", f">{found.currency}"))
    for line in sorted(found.lines, key=lambda line: (-line.cost, line.key)):
        words = dict(zip(FIELDS, line.key, strict=True))
        sheet.add(*(words[name] or "-" for name in shown), *_amounts(line))
    sheet.print()
    cards, allocated = (amount.quantize(CENT, ROUND_HALF_UP) for amount in (found.node_cost, found.allocated))
    say(f"allocated {allocated:,} + idle {cards - allocated:,} = cards {cards:,} {found.currency}")


def _hours(since_ms: int, until_ms: int) -> str:
    """The whole hours that a span counts, as people read them."""
    first = hour_of(since_ms)
    last = max(hour_of(until_ms + HOUR_MS - 1), first + HOUR_MS)
    return f"{moment_text(first)[:16]} to {moment_text(last)[:16]} UTC"


def _amounts(line: BillLine) -> tuple[str, ...]:
    hours, gib = line.vgpu_seconds / 3600, line.mib_seconds / 1024 / 3600
    return f"{hours:,.2f}", show(round(gib)), f"{line.core_seconds / 100 / 3600:,.2f}", _money(line.cost)


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(CENT, ROUND_HALF_UP):,}"
