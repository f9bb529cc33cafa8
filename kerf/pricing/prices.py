"""The price list: what an hour of a card costs, and how fast the card is beside an H100."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kerf.values.card_names import meant, nearest
from kerf.values.supply import Supply


@dataclass(frozen=True, slots=True)
class Price:
    """What one hour of one card costs, and where that is from.

    `throughput` is relative to an H100 80GB HBM3, which is 1.0. `supply` is that of the row: an owned card without a
    row of its own costs what renting it would.
    """

    per_hour: Decimal
    currency: str
    throughput: float
    supply: str
    region: str
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price. An empty `region` is any."""

    model: str
    supply: Supply
    per_hour: Decimal
    source: str
    date: str
    region: str = ""


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """How fast a model of card is."""

    model: str
    relative: float
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class PriceList:
    """Every row, in the order of the file; all prices are of one currency."""

    currency: str = "USD"
    prices: tuple[PriceRow, ...] = ()
    speeds: tuple[SpeedRow, ...] = ()

    def of(self, card_model: str, supply: str = Supply.OWNED, region: str | None = None) -> Price | None:
        """The price of a model of card; None where no row means it.

        A row of the region wins over one of any region, which wins over one of another region. A supply without a row
        takes the other's.
        """
        other = Supply.RENTED if supply == Supply.OWNED else Supply.OWNED
        for wanted in (supply, other):
            row = self._row(card_model, wanted, region or "")
            if row is not None:
                speed = self.throughput(card_model)
                return Price(row.per_hour, self.currency, speed, row.supply, row.region, row.source, row.date)
        return None

    def throughput(self, card_model: str) -> float:
        """How fast the model is; 1.0 where no row means it."""
        name = named(card_model, [row.model for row in self.speeds])
        return next((row.relative for row in self.speeds if row.model == name), 1.0)

    def _row(self, card_model: str, supply: str, region: str) -> PriceRow | None:
        rows = [row for row in self.prices if row.supply == supply]
        for some in (
            [row for row in rows if region and row.region == region],
            [row for row in rows if not row.region],
            rows,
        ):
            name = named(card_model, [row.model for row in some])
            found = next((row for row in some if row.model == name), None)
            if found is not None:
                return found
        return None


def named(card_model: str, names: Sequence[str]) -> str | None:
    """The name in a list that means this model: the one that says most of it, else the first of which it is a part."""
    said = nearest(card_model, names)
    if said is not None:
        return said
    wider = meant(card_model, names)
    return next((name for name in names if name in wider), None)
