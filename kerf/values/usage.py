"""What is kept of an hour: one record for each tenant (or namespace without one), and one for the cards."""

from dataclasses import dataclass
from decimal import Decimal

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Use of one kind of card by one workload and model."""

    namespace: str
    workload: str
    model: str
    card_class: str
    card_model: str
    supply: str
    region: str
    vgpu_seconds: Decimal
    mib_seconds: Decimal
    core_seconds: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class CardRow:
    """For how long cards of one kind were there; `per_hour` is their last price, 0 where none is known."""

    card_class: str
    card_model: str
    supply: str
    region: str
    seconds: Decimal
    per_hour: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokens of one served model, as a workload's engines counted them. `cached` are part of no other column."""

    namespace: str
    workload: str
    model: str
    input: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """What a million tokens of a model cost at the end of the record's time."""

    model: str
    input: Decimal
    cached: Decimal
    output: Decimal
    measured: bool = True
    """False where no tokens were measured, so that it is the price from before."""


@dataclass(frozen=True, slots=True)
class CounterRow:
    """The last value of an engine's counters, so that the next leader counts on from there."""

    uid: str
    started: str
    model: str
    input: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One hour of one owner. `tenant` and `owner_namespace` are both empty for the record of the cards."""

    hour_ms: int
    until_ms: int
    tenant: str = ""
    owner_namespace: str = ""
    cluster: str = ""
    currency: str = "USD"
    closed: bool = False
    rows: tuple[UsageRow, ...] = ()
    tokens: tuple[TokenRow, ...] = ()
    cards: tuple[CardRow, ...] = ()
    prices: tuple[TokenPrice, ...] = ()
    counters: tuple[CounterRow, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def of_cards(self) -> bool:
        """Whether it is the record of the cards."""
        return not (self.tenant or self.owner_namespace)

    @property
    def name(self) -> str:
        """The object's name: it sorts by hour."""
        owner = f"-t-{self.tenant}" if self.tenant else f"-n-{self.owner_namespace}" if self.owner_namespace else ""
        return f"{hour_text(self.hour_ms)}{owner}"


def hour_of(moment_ms: int) -> int:
    """The start of the hour that holds a moment."""
    return moment_ms - moment_ms % HOUR_MS


def hour_text(hour_ms: int) -> str:
    """An hour as ten digits in UTC: 2026112716."""
    year, month, day = civil(hour_ms // (24 * HOUR_MS))
    return f"{year:04}{month:02}{day:02}{hour_ms // HOUR_MS % 24:02}"


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar."""
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    month = month_index + 3 if month_index < 10 else month_index - 9
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    return year_of_era + era * 400 + (month <= 2), month, day
