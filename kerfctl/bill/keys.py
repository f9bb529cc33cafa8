"""`kerf bill --by key,user,model,gateway`: what gateways reported, at the prices that engines make."""

import argparse
import json
from collections.abc import Sequence

from kerf.metering.attribute import FIELDS, KeyBill, key_bill
from kerf.metering.tokenprice import difference
from kerf.values.usage import ReportedHour, UsageRecord, hour_of
from kerf.wire.errors import WireError
from kerf.wire.gatewayrecords import KIND, PATH, parse_reported
from kerf.wire.json import Json
from kerf.wire.usage import plain
from kerfctl import cluster
from kerfctl.documents import read_documents
from kerfctl.errors import CliError
from kerfctl.report import Sheet, say, warn

TOLERANCE = 0.02
"""A gateway and the engines may differ by this: requests that were open at an end of the span."""
NOT_SERVED = (
    "GatewayUsage is not served: install the chart's CRDs (kubectl apply --server-side -f charts/kerf/crds) and run "
    "the usage server (docs/gateways.md)"
)


def run_keys(args: argparse.Namespace, by: Sequence[str], records: Sequence[UsageRecord], span: tuple[int, int]) -> int:
    """Print the bill. Exit status 1 where something has no price, or gateways and engines differ."""
    found = key_bill(records, _hours(args, *span), by)
    apart = difference(found.measured, list(found.reported.items()))
    if args.json:
        say(json.dumps(_json(found, apart), indent=2))
    else:
        _print(found, by)
    notes = [
        f"{model}: gateways report {part:+.1%} beside what the engines measured"
        for model, part in apart.items()
        if abs(part) > TOLERANCE
    ]
    notes += [
        f"{model}: no engine of this name has a price, so its tokens cost nothing here" for model in found.unpriced
    ]
    if "+" in found.currency:
        notes.append(f"sums mix currencies: {found.currency}; narrow --since and --until to one of them")
    warn(*(f"kerf: {note}" for note in notes))
    return 1 if notes else 0


def _hours(args: argparse.Namespace, since_ms: int, until_ms: int) -> list[ReportedHour]:
    if args.file:
        items: Sequence[Json] = read_documents(args.file).of(KIND)
    else:
        listed = cluster.list_or_none(cluster.connect_to(args), PATH, KIND)
        if listed is None:
            raise CliError(NOT_SERVED)
        items = listed
    found = []
    for item in items:
        try:
            found.append(parse_reported(item))
        except WireError as error:
            warn(f"kerf: a GatewayUsage is left out: {error}")
    first = hour_of(since_ms)
    return [hour for hour in found if first <= hour.hour_ms < max(until_ms, first + 1)]


def _json(found: KeyBill, apart: dict[str, float]) -> dict[str, object]:
    rows = [
        {
            **{name: getattr(line, name) for name in (*FIELDS, "requests", "input", "output")},
            "cost": plain(line.cost),
        }
        for line in found.lines
    ]
    unreported = {model: plain(cost) for model, cost in found.unreported.items()}
    return {"rows": rows, "unreported_cost": unreported, "difference": apart, "currency": found.currency}


def _print(found: KeyBill, by: Sequence[str]) -> None:
    shown = [name for name in FIELDS if name in by]
    sheet = Sheet("Use as gateways report it", (*shown, ">requests", ">input", ">output", f">{found.currency}"))
    for line in sorted(found.lines, key=lambda line: -line.cost):
        counts = (f"{count:,}" for count in (line.requests, line.input, line.output))
        sheet.add(*(getattr(line, name) or "-" for name in shown), *counts, f"{line.cost:,.4f}")
    sheet.print()
    for model, cost in found.unreported.items():
        say(f"{model}: {cost:,.4f} {found.currency} of tokens that no gateway reported")
