"""The price of a million tokens, from what the replicas of a model cost and the tokens that they served.

For a window: T = w_in x input + w_cached x cached + w_out x output; a million generated tokens cost
C / T x 10^6 x w_out, and so on. The price is smoothed by its half-life, raised by the margin, and kept between floor
and ceiling. A model without tokens in a window keeps its last price: the cost of idle replicas is no price.

A workload's cost goes to the models that its engines served, by weighted tokens. So replicas on different cards,
several served names of one workload, and a model that is renamed during a window each pay what they used.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from kerf.metering.use import COST_UNITS, CardTime, Kind, Line, Use
from kerf.values.engine import Tokens
from kerf.values.policy import TokenSettings
from kerf.values.usage import TokenPrice, UsageRecord

MILLION = Decimal(10**6)
_STEP = Decimal("0.000001")
Workload = tuple[str, str, str]
"""Tenant, namespace, workload."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was used and served within some time, in minutes."""

    lines: Mapping[Line, Use]
    cards: Mapping[Kind, CardTime]
    tokens: Mapping[tuple[str, str, str, str], Tokens]
    """By tenant, namespace, workload and served model."""
    minutes: float


def newest_priced(records: Iterable[UsageRecord]) -> UsageRecord | None:
    """The newest record of the cards that has prices."""
    priced = (record for record in records if record.of_cards and record.prices)
    return max(priced, key=lambda record: record.hour_ms, default=None)


def weighted(tokens: Tokens, settings: TokenSettings) -> Decimal:
    """Tokens in units of the weights."""
    return (
        settings.input_weight * tokens.input
        + settings.cached_weight * tokens.cached
        + settings.output_weight * tokens.output
    )


def model_costs(window: Window, settings: TokenSettings) -> dict[str, Decimal]:
    """What each served model cost within the window, for models that served tokens."""
    costs = _workload_costs(window, settings)
    served: dict[Workload, dict[str, Decimal]] = defaultdict(dict)
    for (tenant, namespace, workload, model), tokens in window.tokens.items():
        if amount := weighted(tokens, settings):
            served[tenant, namespace, workload][model] = amount
    found: dict[str, Decimal] = defaultdict(Decimal)
    for key, models in served.items():
        total = sum(models.values(), Decimal(0))
        for model, amount in models.items():
            found[model] += costs.get(key, Decimal(0)) * amount / total
    return dict(found)


def prices(window: Window, before: Sequence[TokenPrice], settings: TokenSettings) -> tuple[TokenPrice, ...]:
    """The prices after a window, by model. Models of before that served nothing keep theirs."""
    last = {price.model: price for price in before}
    tokens: dict[str, Tokens] = defaultdict(Tokens)
    for (*_, model), count in window.tokens.items():
        tokens[model] += count
    found = {}
    for model, cost in model_costs(window, settings).items():
        unit = cost / weighted(tokens[model], settings) * MILLION * (1 + settings.margin_percent / 100)
        found[model] = _price(model, unit, last.get(model), settings, window.minutes)
    kept = {name: TokenPrice(name, p.input, p.cached, p.output, measured=False) for name, p in last.items()}
    return tuple(price for _, price in sorted({**kept, **found}.items()))


def _price(model: str, unit: Decimal, last: TokenPrice | None, settings: TokenSettings, minutes: float) -> TokenPrice:
    """`unit` is the price of a million units of weight."""
    output = unit * settings.output_weight
    if last is not None and settings.half_life_minutes > 0:
        old = Decimal(2.0 ** -(minutes / settings.half_life_minutes))
        output = last.output * old + output * (1 - old)
    output = min(max(output, settings.floor), settings.ceiling)
    unit = output / settings.output_weight
    amounts = (unit * settings.input_weight, unit * settings.cached_weight, output)
    first, second, third = (amount.quantize(_STEP, ROUND_HALF_UP) for amount in amounts)
    return TokenPrice(model, first, second, third)


def _workload_costs(window: Window, settings: TokenSettings) -> dict[Workload, Decimal]:
    idle = _idle_factors(window) if settings.with_idle else {}
    found: dict[Workload, Decimal] = defaultdict(Decimal)
    for (who, kind), use in window.lines.items():
        cost = Decimal(use.cost) / COST_UNITS
        found[who.tenant, who.namespace, who.workload] += cost * idle.get(kind, Decimal(1))
    return found


def _idle_factors(window: Window) -> dict[Kind, Decimal]:
    """By how much a use of a kind of card is dearer when it pays its part of what is idle."""
    used: dict[Kind, int] = defaultdict(int)
    for (_, kind), use in window.lines.items():
        used[kind] += use.cost
    return {kind: Decimal(time.cost) / used[kind] for kind, time in window.cards.items() if used.get(kind)}


def difference(measured: Mapping[str, Tokens], reported: Iterable[tuple[str, Tokens]]) -> dict[str, float]:
    """How much more of each model a gateway reports than the engines measured, as a part of what was measured."""
    said: dict[str, Tokens] = defaultdict(Tokens)
    for model, tokens in reported:
        said[model] += tokens
    found = {}
    for model in sorted(measured.keys() | said.keys()):
        one, other = measured.get(model, Tokens()), said.get(model, Tokens())
        truth = one.input + one.cached + one.output
        found[model] = (other.input + other.cached + other.output - truth) / truth if truth else float(bool(other))
    return found
