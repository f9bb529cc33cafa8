"""A gateway's usage at the models' prices, by key, user and model. Engines make the price; the gateway divides it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from kerf.metering.tokenprice import MILLION
from kerf.values.engine import Tokens
from kerf.values.usage import TokenPrice

_STEP = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Attributed:
    """What one key and user used of one model."""

    key: str
    user: str
    model: str
    tokens: Tokens
    cost: Decimal


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


def _cost(tokens: Tokens, price: TokenPrice | None) -> Decimal:
    if price is None:
        return Decimal(0)
    total = price.input * tokens.input + price.cached * tokens.cached + price.output * tokens.output
    return (total / MILLION).quantize(_STEP, ROUND_HALF_UP)
