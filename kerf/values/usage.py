"""What is kept of an hour: one record for each tenant (or namespace without one), and one for the cards."""

from dataclasses import dataclass
from decimal import Decimal

from kerf.values.days import civil

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


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """What a gateway reported of one key, user and model in an hour. `cached` is part of `input`."""

    key: str
    user: str
    model: str
    requests: int
    input: int
    cached: int
    output: int

    def __add__(self, other: "ReportedRow") -> "ReportedRow":
        """The same key, user and model."""
        counts = (getattr(self, name) + getattr(other, name) for name in ("requests", "input", "cached", "output"))
        return ReportedRow(self.key, self.user, self.model, *counts)


@dataclass(frozen=True, slots=True)
class ReportedHour:
    """What one gateway reported to one server in an hour; several servers' add up."""

    hour_ms: int
    gateway: str
    server: str
    rows: tuple[ReportedRow, ...] = ()


def hour_of(moment_ms: int) -> int:
    """The start of the hour that holds a moment."""
    return moment_ms - moment_ms % HOUR_MS


def hour_text(hour_ms: int) -> str:
    """An hour as ten digits in UTC: 2026112716."""
    year, month, day = civil(hour_ms // (24 * HOUR_MS))
    return f"{year:04}{month:02}{day:02}{hour_ms // HOUR_MS % 24:02}"
