"""The bill: use of stored hours, summed by what people ask for, beside what the cards cost.

`allocated + idle = node cost`, always: the cost of a line is rounded down and the cost of the cards up, both to a
millionth, and idle is the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from kerf.pricing.prices import PriceList
from kerf.values.usage import CardRow, UsageRecord, UsageRow

FIELDS = ("tenant", "namespace", "workload", "model", "class", "cluster")
_STEP = Decimal("0.000001")
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line. A field that was summed away is ""."""

    tenant: str
    namespace: str
    workload: str
    model: str
    card_class: str
    cluster: str
    vgpu_seconds: Decimal = ZERO
    mib_seconds: Decimal = ZERO
    core_seconds: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def key(self) -> tuple[str, ...]:
        """What the line is about, in the order of FIELDS."""
        return (self.tenant, self.namespace, self.workload, self.model, self.card_class, self.cluster)


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill. `notes` are sentences about what it cannot know."""

    lines: tuple[BillLine, ...]
    idle_cost: Decimal
    node_cost: Decimal
    currency: str
    notes: tuple[str, ...] = ()

    @property
    def allocated(self) -> Decimal:
        """The cost of all lines."""
        return sum((line.cost for line in self.lines), ZERO)


def bill(records: Iterable[UsageRecord], by: Sequence[str] = FIELDS, prices: PriceList | None = None) -> Bill:
    """Sum records. `by` are the fields to keep; with `prices`, costs are computed again from these."""
    found = sorted(records, key=lambda record: record.name)
    sums: dict[tuple[str, ...], BillLine] = {}
    node_cost, notes = ZERO, set[str]()
    for record in found:
        for row in record.rows:
            line = _line(record, row, _cost(row, prices), by)
            before = sums.get(line.key)
            sums[line.key] = _plus(before, line) if before else line
        for card in record.cards:
            node_cost += _card_cost(card, prices)
            notes |= _without_price(card, prices)
    lines = tuple(replace(sums[key], cost=sums[key].cost.quantize(_STEP, ROUND_DOWN)) for key in sorted(sums))
    node = node_cost.quantize(_STEP, ROUND_UP)
    currencies = sorted({prices.currency} if prices else {record.currency for record in found if record.cards})
    said = [*sorted(notes), *(gap for record in found for gap in record.gaps)]
    if len(currencies) > 1:
        said.append(f"sums mix currencies: {', '.join(currencies)}; compute them again with --prices FILE")
    idle = node - sum((line.cost for line in lines), ZERO)
    if idle < ZERO:
        said.append("the records of the cards are not all there, so what is idle is not known: it is below zero here")
    return Bill(lines, idle, node, "+".join(currencies) or "USD", tuple(said))


def _without_price(card: CardRow, prices: PriceList | None) -> set[str]:
    """What to say of a card that costs nothing. A record has only its price: a row that says 0 looks as none does."""
    if prices:
        known = prices.of(card.card_model, card.supply, card.region)
        return set() if known else {f"no row of the price list means {card.card_class}: its cards cost nothing here"}
    if card.per_hour:
        return set()
    return {
        f"cards of {card.card_class} cost nothing: no row of the leader's price list meant them, or their row says 0"
    }


def _line(record: UsageRecord, row: UsageRow, cost: Decimal, by: Sequence[str]) -> BillLine:
    values = (record.tenant, row.namespace, row.workload, row.model, row.card_class, record.cluster)
    tenant, namespace, workload, model, card_class, cluster = (
        value if field in by else "" for field, value in zip(FIELDS, values, strict=True)
    )
    return BillLine(
        tenant,
        namespace,
        workload,
        model,
        card_class,
        cluster,
        row.vgpu_seconds,
        row.mib_seconds,
        row.core_seconds,
        cost,
    )


def _plus(one: BillLine, other: BillLine) -> BillLine:
    return replace(
        one,
        vgpu_seconds=one.vgpu_seconds + other.vgpu_seconds,
        mib_seconds=one.mib_seconds + other.mib_seconds,
        core_seconds=one.core_seconds + other.core_seconds,
        cost=one.cost + other.cost,
    )


def _cost(row: UsageRow, prices: PriceList | None) -> Decimal:
    if prices is None:
        return row.cost
    price = prices.of(row.card_model, row.supply, row.region)
    return row.vgpu_seconds * price.per_hour / 3600 if price else ZERO


def _card_cost(card: CardRow, prices: PriceList | None) -> Decimal:
    if prices is None:
        return card.cost
    price = prices.of(card.card_model, card.supply, card.region)
    return card.seconds * price.per_hour / 3600 if price else ZERO
