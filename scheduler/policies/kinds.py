"""Which of several kinds of cards a new pod is given. Pure.

Among the kinds where it fits now: those that its owner's last pods did not wait too long for, then those that no pod
waits for which can use nothing else, then the cheapest, then the pod's own order. Where it fits nowhere: the first
whose cards could ever hold it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kerf.metering.use import share
from kerf.pricing.prices import PriceList
from kerf.values.accepts import AcceptsOrder
from kerf.values.device import Card
from kerf.values.grant import CardUse

MOST_OTHERS = 4
LONGEST = 160


@dataclass(frozen=True, slots=True)
class Cost:
    """What a slice costs an hour, and what it would cost with the throughput of one H100."""

    model: str
    per_hour: Decimal
    per_throughput: Decimal
    currency: str

    def by(self, order: AcceptsOrder) -> Decimal:
        """The number that decides."""
        return self.per_hour if order is AcceptsOrder.PRICE else self.per_throughput


@dataclass(frozen=True, slots=True)
class KindOption:
    """One kind for one pod, as it is now."""

    name: str
    model: str = ""
    """The model of card that the pod would get; empty where it fits on none."""
    cost: Cost | None = None
    no_place: str = ""
    final: bool = False
    """Waiting does not help: there are no such cards."""
    waited_too_long: bool = False
    """A pod of the same owner has waited for this kind too long."""
    wanted: str = ""
    """A waiting pod that can use nothing else."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The place in the list of options, and why."""

    number: int
    why: str


def choose_kind(options: Sequence[KindOption], order: AcceptsOrder) -> Choice:
    """The best of at least one option."""
    number = min(range(len(options)), key=lambda i: (*_rank(options[i], order), i))
    return Choice(number, _why(options, number, order))


def cost_of(card: Card, use: CardUse, prices: PriceList, supply: str, region: str) -> Cost | None:
    """What a slice of a card costs; None where no row of the list means the card.

    The slice costs the greater of its parts of memory and cores. It computes with its part of the cores; without one,
    with as much of the card as it pays for.
    """
    price = prices.of(card.model, supply, region)
    if price is None:
        return None
    mine, whole = share(use, card.factory_memory_mib)
    part, cores = min(Decimal(mine) / whole, Decimal(1)), Decimal(use.cores) / 100
    speed = Decimal(str(price.throughput)) * (cores or part)
    hour = price.per_hour * part
    return Cost(card.model, hour, hour / speed if speed else price.per_hour, price.currency)


def together(costs: Sequence[Cost]) -> Cost:
    """The cost of at least one slice."""
    hours = sum((cost.per_hour for cost in costs), Decimal(0))
    speed = sum((cost.per_hour / cost.per_throughput for cost in costs if cost.per_throughput), Decimal(0))
    return Cost(costs[0].model, hours, hours / speed if speed else Decimal(0), costs[0].currency)


def _rank(option: KindOption, order: AcceptsOrder) -> tuple[object, ...]:
    if option.no_place:
        return (True, option.waited_too_long, option.final, False, Decimal(0))
    money = Decimal(0)
    if order is not AcceptsOrder.LISTED and option.cost is not None:
        money = option.cost.by(order)
    unknown = order is not AcceptsOrder.LISTED and option.cost is None
    return (False, option.waited_too_long, bool(option.wanted), unknown, money)


def _why(options: Sequence[KindOption], number: int, order: AcceptsOrder) -> str:
    chosen = options[number]
    if chosen.no_place:
        first = f"fits nowhere now, so it waits for {chosen.name}: {_cut(chosen.no_place)}"
    else:
        first = f"fits on {chosen.model}{_money(chosen, order)}{_remarks(chosen)}"
    others = [f"{option.name}: {_other(option, order)}" for i, option in enumerate(options) if i != number]
    left = f"; and {len(others) - MOST_OTHERS} more kinds" if len(others) > MOST_OTHERS else ""
    return "; ".join([first, *others[:MOST_OTHERS]]) + left


def _other(option: KindOption, order: AcceptsOrder) -> str:
    if option.no_place:
        return f"does not fit: {_cut(option.no_place)}"
    return f"{option.model}{_money(option, order)}{_remarks(option)}"


def _money(option: KindOption, order: AcceptsOrder) -> str:
    if order is AcceptsOrder.LISTED:
        return ""
    if option.cost is None:
        return ", no price is known"
    cost = option.cost
    return f" at {cost.per_hour:.2f} {cost.currency} an hour, {cost.per_throughput:.2f} for an H100's throughput"


def _remarks(option: KindOption) -> str:
    found = ", but its owner's last pod waited there too long" if option.waited_too_long else ""
    return found + (f", but {option.wanted} waits and can use nothing else" if option.wanted else "")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
