"""`kind: PriceList` (kerf.dev/v1alpha1): a parsed YAML document to the price list."""

import re
from decimal import Decimal

from kerf.pricing.prices import PriceList, PriceRow, SpeedRow
from kerf.values.supply import Supply
from kerf.wire.errors import WireError
from kerf.wire.fields import amount, check_kind, known, list_at, object_at, one_of, text
from kerf.wire.json import Json

KIND = "PriceList"
_CURRENCY = re.compile(r"[A-Z]{3}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_prices(document: object) -> PriceList:
    """Read a price list. An unknown key, a wrong type, an impossible value or two rows for one thing: WireError."""
    top = object_at(document, "prices")
    known(top, "prices", ("apiVersion", "kind", "metadata", "spec"))
    check_kind(top, KIND)
    spec = object_at(top.get("spec") or {}, "spec")
    known(spec, "spec", ("currency", "prices", "throughput"))
    currency = text(spec, "currency", "spec", "USD")
    if not _CURRENCY.fullmatch(currency):
        raise WireError("spec.currency", currency, "write three capital letters, such as USD")
    prices = [_price(item, f"spec.prices[{i}]") for i, item in enumerate(list_at(spec.get("prices"), "spec.prices"))]
    speeds = [
        _speed(item, f"spec.throughput[{i}]")
        for i, item in enumerate(list_at(spec.get("throughput"), "spec.throughput"))
    ]
    _once([(row.model, row.supply.value, row.region) for row in prices], "spec.prices")
    _once([(row.model,) for row in speeds], "spec.throughput")
    return PriceList(currency, tuple(prices), tuple(speeds))


def _price(value: object, where: str) -> PriceRow:
    row = object_at(value, where)
    known(row, where, ("model", "supply", "region", "perHour", "source", "date"))
    return PriceRow(
        model=text(row, "model", where, None),
        supply=Supply(one_of(row, "supply", where, None, Supply)),
        per_hour=amount(row, "perHour", where, None),
        source=text(row, "source", where, None),
        date=_date(row, where),
        region=text(row, "region", where, None) if "region" in row else "",
    )


def _speed(value: object, where: str) -> SpeedRow:
    row = object_at(value, where)
    known(row, where, ("model", "relative", "source", "date"))
    relative = float(amount(row, "relative", where, None, Decimal(1000)))
    if relative <= 0:
        raise WireError(f"{where}.relative", row.get("relative"), "write a number above 0; an H100 80GB HBM3 is 1")
    return SpeedRow(text(row, "model", where, None), relative, text(row, "source", where, None), _date(row, where))


def _date(row: Json, where: str) -> str:
    found = str(row.get("date"))  # YAML reads a bare date as one
    if not _DATE.fullmatch(found) or not found.isascii():
        raise WireError(f"{where}.date", row.get("date"), "write the day on which it was read, as 2026-11-27")
    return found


def _once(keys: list[tuple[str, ...]], where: str) -> None:
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen:
            raise WireError(where, ", ".join(filter(None, key)), "write one row for it")
        seen.add(key)
