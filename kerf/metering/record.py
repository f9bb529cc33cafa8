"""Between use in integers and the rows that are stored."""

from decimal import ROUND_DOWN, ROUND_UP, Decimal

from kerf.metering.use import COST_UNITS, CardTime, Kind, Line, Use
from kerf.values.usage import CardRow, UsageRow

_COST_STEP = Decimal("0.000000000001")
_SECONDS_STEP = Decimal("0.000001")


def usage_row(line: Line, use: Use) -> UsageRow:
    """A line as it is stored: times to a microsecond, costs rounded down."""
    who, kind = line
    return UsageRow(
        who.namespace,
        who.workload,
        who.model,
        kind.card_class,
        kind.card_model,
        kind.supply,
        kind.region,
        seconds(use.vgpu_us),
        seconds(use.mib_ms * 1000),
        seconds(use.core_ms * 1000),
        (Decimal(use.cost) / COST_UNITS).quantize(_COST_STEP, ROUND_DOWN),
    )


def card_row(kind: Kind, time: CardTime, per_hour: Decimal) -> CardRow:
    """Cards' time as it is stored, its cost rounded up."""
    cost = (Decimal(time.cost) / COST_UNITS).quantize(_COST_STEP, ROUND_UP)
    return CardRow(kind.card_class, kind.card_model, kind.supply, kind.region, seconds(time.us), per_hour, cost)


def use_of(row: UsageRow) -> Use:
    """A stored row as use again, to count on from. Its cost is what is stored."""
    return Use(
        int(row.vgpu_seconds * 10**6),
        int(row.mib_seconds * 1000),
        int(row.core_seconds * 1000),
        int(row.cost * COST_UNITS),
    )


def time_of(row: CardRow) -> CardTime:
    """A stored row as cards' time again."""
    return CardTime(int(row.seconds * 10**6), -int(-row.cost * COST_UNITS // 1))


def seconds(us: int) -> Decimal:
    """Microseconds as seconds."""
    return (Decimal(us) / 10**6).quantize(_SECONDS_STEP)
