"""A gateway's usage at the models' prices, by key, user and model. Engines make the price; the gateway divides it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from kerf.metering.tokenprice import MILLION
from kerf.values.engine import Tokens
from kerf.values.usage import ReportedHour, TokenPrice, UsageRecord

_STEP = Decimal("0.000001")
FIELDS = ("gateway", "key", "user", "model")


@dataclass(frozen=True, slots=True)
class Attributed:
    """What one key and user used of one model."""

    key: str
    user: str
    model: str
    tokens: Tokens
    cost: Decimal


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A line of the bill by keys. A field that was summed away is "". Cached prompt tokens are part of `input`."""

    gateway: str
    key: str
    user: str
    model: str
    requests: int
    input: int
    output: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class KeyBill:
    """What gateways reported, priced. `unreported` is what engines served and no gateway reported, by model."""

    lines: tuple[KeyLine, ...]
    unreported: Mapping[str, Decimal]
    measured: Mapping[str, Tokens]
    reported: Mapping[str, Tokens]
    unpriced: tuple[str, ...]
    currency: str


def attribute(
    reported: Iterable[tuple[str, str, str, Tokens]], prices: Sequence[TokenPrice]
) -> tuple[tuple[Attributed, ...], tuple[str, ...]]:
    """Lines by key, user and model, and the models that have no price."""
    by_model = {price.model: price for price in prices}
    sums: dict[tuple[str, str, str], Tokens] = {}
    for key, user, model, tokens in reported:
        sums[key, user, model] = sums.get((key, user, model), Tokens()) + tokens
    lines = tuple(Attributed(*key, sums[key], _cost(sums[key], by_model.get(key[2]))) for key in sorted(sums))
    return lines, tuple(sorted({line.model for line in lines} - by_model.keys()))


def key_bill(records: Iterable[UsageRecord], hours: Iterable[ReportedHour], by: Sequence[str] = FIELDS) -> KeyBill:
    """Sum reports hour by hour, each at the price of its hour, or else at the last one before it.

    Gateways hardly say which prompt tokens the cache held. So a model's prompt tokens of an hour all cost the same:
    what they cost on average by the engines' own counters of that hour.
    """
    records = sorted(records, key=lambda record: record.hour_ms)
    measured = _measured(records)
    prices, currency = _prices(records)
    sums: dict[tuple[str, ...], list[Decimal]] = {}
    reported: dict[tuple[int, str], Tokens] = {}
    unpriced = set()
    for hour in sorted(hours, key=lambda hour: hour.hour_ms):
        for row in hour.rows:
            at = (hour.hour_ms, row.model)
            price = _price_at(prices, *at)
            unpriced |= set() if price else {row.model}
            cost = _mixed(row.input, row.output, price, measured.get(at, Tokens()))
            words = {"gateway": hour.gateway, "key": row.key, "user": row.user, "model": row.model}
            key = tuple(words[name] if name in by else "" for name in FIELDS)
            amounts = (Decimal(row.requests), Decimal(row.input), Decimal(row.output), cost)
            sums[key] = [one + more for one, more in zip(sums.get(key, [Decimal(0)] * 4), amounts, strict=True)]
            reported[at] = reported.get(at, Tokens()) + Tokens(row.input, 0, row.output)
    lines = tuple(
        KeyLine(key[0], key[1], key[2], key[3], int(count), int(prompt), int(out), cost.quantize(_STEP, ROUND_HALF_UP))
        for key, (count, prompt, out, cost) in sorted(sums.items())
    )
    rest = _unreported(measured, reported, prices)
    return KeyBill(lines, rest, _by_model(measured), _by_model(reported), tuple(sorted(unpriced)), currency)


def _measured(records: Iterable[UsageRecord]) -> dict[tuple[int, str], Tokens]:
    found: dict[tuple[int, str], Tokens] = {}
    for record in records:
        for row in record.tokens:
            at = (record.hour_ms, row.model)
            found[at] = found.get(at, Tokens()) + Tokens(row.input, row.cached, row.output)
    return found


def _prices(records: Iterable[UsageRecord]) -> tuple[list[tuple[int, Mapping[str, TokenPrice]]], str]:
    found = [
        (record.hour_ms, {price.model: price for price in record.prices}, record.currency)
        for record in records
        if record.of_cards and record.prices
    ]
    return [(hour, prices) for hour, prices, _ in found], "+".join(sorted({each for *_, each in found})) or "USD"


def _price_at(prices: Sequence[tuple[int, Mapping[str, TokenPrice]]], hour_ms: int, model: str) -> TokenPrice | None:
    """The price at the end of the hour; the last one before; where there is none, the first one after."""
    known = [(hour, by_model[model]) for hour, by_model in prices if model in by_model]
    before = [price for hour, price in known if hour <= hour_ms]
    return before[-1] if before else known[0][1] if known else None


def _mixed(prompt: int, output: int, price: TokenPrice | None, measured: Tokens) -> Decimal:
    if price is None:
        return Decimal(0)
    whole = measured.input + measured.cached
    each = (price.input * measured.input + price.cached * measured.cached) / whole if whole else price.input
    return (each * prompt + price.output * output) / MILLION


def _unreported(
    measured: Mapping[tuple[int, str], Tokens],
    reported: Mapping[tuple[int, str], Tokens],
    prices: Sequence[tuple[int, Mapping[str, TokenPrice]]],
) -> dict[str, Decimal]:
    """By model, what the tokens cost that engines counted in an hour beyond those that gateways reported."""
    found: dict[str, Decimal] = {}
    for at, truth in measured.items():
        said = reported.get(at, Tokens())
        prompt = max(truth.input + truth.cached - said.input, 0)
        cost = _mixed(prompt, max(truth.output - said.output, 0), _price_at(prices, *at), truth)
        if cost:
            found[at[1]] = found.get(at[1], Decimal(0)) + cost
    return {model: cost.quantize(_STEP, ROUND_HALF_UP) for model, cost in sorted(found.items())}


def _by_model(counts: Mapping[tuple[int, str], Tokens]) -> dict[str, Tokens]:
    found: dict[str, Tokens] = {}
    for (_, model), tokens in counts.items():
        found[model] = found.get(model, Tokens()) + tokens
    return found


def _cost(tokens: Tokens, price: TokenPrice | None) -> Decimal:
    if price is None:
        return Decimal(0)
    total = price.input * tokens.input + price.cached * tokens.cached + price.output * tokens.output
    return (total / MILLION).quantize(_STEP, ROUND_HALF_UP)
