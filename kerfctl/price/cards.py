"""`kerf price cards`: the price list."""

import argparse
import json

from kerf.config.prices import read_prices
from kerf.pricing.prices import Price, PriceList
from kerf.values.supply import Supply
from kerfctl.errors import CliError
from kerfctl.report import Sheet


def run_cards(args: argparse.Namespace) -> int:
    """Print the list, or the price of one model. Raises CliError for a model that no row means."""
    prices = read_prices(args.prices)
    rows = _one(prices, args) if args.model else _all(prices, args)
    if args.json:
        print(
            json.dumps({"currency": prices.currency, "cards": [_object(name, price) for name, price in rows]}, indent=2)
        )
    else:
        _print(rows, prices.currency)
    return 0


def _one(prices: PriceList, args: argparse.Namespace) -> list[tuple[str, Price]]:
    price = prices.of(args.model, args.supply or Supply.OWNED, args.region)
    if price is None:
        raise CliError(f"{args.model}: no row of the price list means this card; add one and name it by --prices FILE")
    return [(args.model, price)]


def _all(prices: PriceList, args: argparse.Namespace) -> list[tuple[str, Price]]:
    rows = (row for row in prices.prices if args.supply in (None, row.supply) and args.region in (None, row.region))
    found = ((row.model, prices.of(row.model, row.supply, row.region or None)) for row in rows)
    return [(model, price) for model, price in found if price is not None]


def _object(model: str, price: Price) -> dict[str, object]:
    return {
        "model": model,
        "supply": str(price.supply),
        "region": price.region,
        "per_hour": str(price.per_hour),
        "throughput": price.throughput,
        "source": price.source,
        "date": price.date,
    }


def _print(rows: list[tuple[str, Price]], currency: str) -> None:
    columns = ("model", "supply", "region", f">{currency} an hour", ">throughput", "source", "read on")
    sheet = Sheet("Cards", columns)
    for model, price in rows:
        cells = (price.supply, price.region or "any", price.per_hour, price.throughput, price.source, price.date)
        sheet.add(model, *(str(cell) for cell in cells))
    sheet.print()
