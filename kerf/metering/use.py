"""Use in exact integers: who used which kind of card for how long, and what that cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from kerf.values.grant import CardUse

COST_UNITS = 3600 * 10**12
"""Units of cost in one unit of money: a millionth of money an hour, for a millionth of a second."""
MICRO = 10**6


@dataclass(frozen=True, slots=True, order=True)
class Who:
    """Whose use it is. `tenant` is "" for a namespace without a TenantQuota."""

    tenant: str
    namespace: str
    workload: str
    model: str


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """Cards that cost the same: the slug of their class, their model, how they were come by, and where they are."""

    card_class: str
    card_model: str
    supply: str
    region: str = ""


@dataclass(frozen=True, slots=True)
class MeteredCard:
    """A card as metering sees it. `memory_mib` is the hardware's; `per_hour` is in millionths of the currency."""

    id: str
    kind: Kind
    memory_mib: int
    per_hour: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What a pod held of cards, from `start_ms` until `end_ms`. Before `counted_ms` its use was counted already."""

    uid: str
    who: Who
    uses: Mapping[str, CardUse]
    start_ms: int
    end_ms: int
    counted_ms: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """Microseconds of whole cards, MiB times milliseconds, percent of cores times milliseconds, and units of cost."""

    vgpu_us: int = 0
    mib_ms: int = 0
    core_ms: int = 0
    cost: int = 0

    def __add__(self, other: "Use") -> "Use":
        return Use(
            self.vgpu_us + other.vgpu_us,
            self.mib_ms + other.mib_ms,
            self.core_ms + other.core_ms,
            self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class CardTime:
    """For how long cards of a kind were there, and what that cost."""

    us: int = 0
    cost: int = 0

    def __add__(self, other: "CardTime") -> "CardTime":
        return CardTime(self.us + other.us, self.cost + other.cost)


Line = tuple[Who, Kind]


def micro(price: Decimal) -> int:
    """A price an hour in millionths; the price list has at most six decimals."""
    return int(price * MICRO)


def share(use: CardUse, memory_mib: int) -> tuple[int, int]:
    """The dominant share of a card as numerator and denominator: of its memory or of its cores, the greater."""
    if memory_mib <= 0:
        return min(use.cores, 100), 100
    return max(use.memory_mib * 100, use.cores * memory_mib), memory_mib * 100
