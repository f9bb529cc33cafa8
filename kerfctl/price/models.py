"""`kerf price models`: what a million tokens cost, for people, machines and gateways."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from kerf.gateways.litellm import price_params
from kerf.metering.attribute import Attributed, attribute
from kerf.metering.tokenprice import difference, newest_priced
from kerf.values.engine import Tokens
from kerf.values.usage import HOUR_MS, TokenPrice, UsageRecord, hour_of
from kerf.views.bills import price_json
from kerf.wire.gatewayusage import Reported, parse_usage_lines
from kerf.wire.usage import plain
from kerfctl.bill.read import records_of
from kerfctl.bill.span import parse_span
from kerfctl.errors import CliError
from kerfctl.report import Sheet, say, warn

BACK_MS = 48 * HOUR_MS
TOLERANCE = 0.02
"""A gateway and the engines may differ by this: requests that were open at an end of the span."""


def run_models(args: argparse.Namespace) -> int:
    """Print the newest prices, or what a gateway's usage costs by them. Exit status 1 when there are none."""
    now = time.time_ns() // 1_000_000
    args.cache, args.no_cache = None, True
    since, until = parse_span(args.since, args.until, now)
    back = min(now - BACK_MS, since) if args.usage else now - BACK_MS
    records = records_of(args, 0 if args.file else back, now + HOUR_MS)
    newest = newest_priced(records)
    if newest is None:
        raise CliError("no prices: is metering on (metering.enabled), and has an engine served tokens?")
    if args.usage:
        return _attribute(args, newest, [each for each in records if hour_of(since) <= each.hour_ms < until])
    if args.json:
        print(json.dumps(price_json(newest.prices, newest.currency, newest.cluster), indent=2))
    elif args.litellm:
        say(yaml.safe_dump(litellm(newest.prices), sort_keys=False).rstrip("\n"))
        if newest.currency != "USD":
            warn(
                f"kerf: these prices are in {newest.currency}; LiteLLM names no currency, so its budgets are in it too"
            )
    else:
        _print(newest.prices, newest.currency)
    return 0


def litellm(prices: Sequence[TokenPrice]) -> dict[str, list[dict[str, object]]]:
    """LiteLLM's model_list with both prices of each model, in one token; without both, the other side would be free."""
    return {
        "model_list": [
            {
                "model_name": price.model,
                "litellm_params": {
                    "model": f"hosted_vllm/{price.model}",
                    **price_params(price),
                },
            }
            for price in prices
        ]
    }


def _print(prices: Sequence[TokenPrice], currency: str) -> None:
    sheet = Sheet(f"{currency} for a million tokens", ("model", ">input", ">cached", ">output", ""))
    for price in prices:
        amounts = (f"{amount:,.4f}" for amount in (price.input, price.cached, price.output))
        sheet.add(price.model, *amounts, "" if price.measured else "from before: nothing was served")
    sheet.print()


def _attribute(args: argparse.Namespace, newest: UsageRecord, records: Iterable[UsageRecord]) -> int:
    reported = _read(args.usage)
    measured: dict[str, Tokens] = {}
    for row in (row for record in records for row in record.tokens):
        measured[row.model] = measured.get(row.model, Tokens()) + Tokens(row.input, row.cached, row.output)
    lines, unpriced = attribute([(r.key, r.user, r.model, r.tokens) for r in reported], newest.prices)
    apart = difference(measured, [(r.model, r.tokens) for r in reported])
    if args.json:
        print(json.dumps(_json(lines, apart, newest.currency), indent=2))
    else:
        sheet = Sheet(f"Usage, {newest.currency}", ("key", "user", "model", ">input", ">cached", ">output", ">cost"))
        for line in lines:
            counts = (f"{count:,}" for count in (line.tokens.input, line.tokens.cached, line.tokens.output))
            sheet.add(line.key or "-", line.user or "-", line.model, *counts, f"{line.cost:,.4f}")
        sheet.print()
    for model, part in apart.items():
        if abs(part) > TOLERANCE:
            warn(f"kerf: {model}: the gateway reports {part:+.1%} beside what the engines measured")
    for model in unpriced:
        warn(f"kerf: {model}: no engine of this name has a price, so its tokens cost nothing here")
    return 1 if unpriced or any(abs(part) > TOLERANCE for part in apart.values()) else 0


def _json(lines: Sequence[Attributed], apart: dict[str, float], currency: str) -> dict[str, object]:
    rows = [
        {
            "key": line.key,
            "user": line.user,
            "model": line.model,
            "input": line.tokens.input,
            "cached": line.tokens.cached,
            "output": line.tokens.output,
            "cost": plain(line.cost),
        }
        for line in lines
    ]
    return {"rows": rows, "difference": apart, "currency": currency}


def _read(path: str) -> list[Reported]:
    try:
        return list(parse_usage_lines(Path(path).read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"--usage {path}: {error}; name a file of JSON lines") from error
