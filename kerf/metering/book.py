"""The books of the hours that are still open: what was counted, by owner, and what is stored of it.

An hour is open until some time after its end, so that what nodes report late is still counted. Each record says until
when it counts (`until_ms`); the next leader counts on from there, owner by owner, so that nothing is
counted twice even where the last leader stored some records of a round and not others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from kerf.metering.charge import Charge, charge
from kerf.metering.fitting import TokenKey, fit_counters, fit_gaps, fit_prices, fold, fold_tokens
from kerf.metering.record import card_row, time_of, usage_row, use_of
from kerf.metering.tokenprice import Window, prices
from kerf.metering.use import MICRO, CardTime, Held, Kind, Line, MeteredCard, Use, Who
from kerf.values.engine import Tokens
from kerf.values.policy import TokenSettings
from kerf.values.usage import HOUR_MS, CounterRow, TokenPrice, TokenRow, UsageRecord, UsageRow, hour_of

WINDOW_MINUTES = 10.0
"""Prices are made of at least so long, models without a price apart."""
Owner = tuple[str, str]
"""(tenant, "") or ("", namespace); ("", "") owns the record of the cards."""
CARDS: Owner = ("", "")


@dataclass(slots=True)
class Hour:
    """What was counted of one hour."""

    lines: dict[Line, Use] = field(default_factory=dict)
    cards: dict[Kind, CardTime] = field(default_factory=dict)
    per_hour: dict[Kind, int] = field(default_factory=dict)
    tokens: dict[TokenKey, Tokens] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    stored: dict[Owner, int] = field(default_factory=dict)
    """Until when the records that were read count, by owner."""
    currency: str = ""
    prices: tuple[TokenPrice, ...] = ()
    """The models' prices at the end of an hour in another currency than the book's."""


class Book:
    """Open hours by their start. Not safe from several threads."""

    def __init__(self, cluster: str, currency: str) -> None:
        self.cluster = cluster
        self.currency = currency
        self.hours: dict[int, Hour] = {}
        self.until_ms = 0
        """Everything before this moment is counted; 0: nothing is."""
        self.recent = Hour()
        """What was counted since the last pricing, over so many milliseconds."""
        self.recent_ms = 0
        self.prices: tuple[TokenPrice, ...] = ()
        self.counters: tuple[CounterRow, ...] = ()

    @classmethod
    def taken_over(cls, records: Iterable[UsageRecord], cluster: str, currency: str) -> "Book":
        """The books as the last leader left them. Closed records are history and only say until when they count."""
        book = cls(cluster, currency)
        for record in sorted(records, key=lambda record: record.name):
            if record.of_cards and record.until_ms >= book.until_ms:
                book.until_ms = record.until_ms
                book.prices, book.counters = record.prices or book.prices, record.counters
                if record.currency != currency:
                    book.prices = ()  # an amount in another currency is no price to go on from
            if not record.closed:
                book._read(record)
        book._note_currency()
        return book

    def change_currency(self, currency: str) -> None:
        """From now on costs are amounts in another currency. Hours that were counted keep theirs."""
        for hour in self.hours.values():
            hour.prices = hour.prices or self.prices
        self.currency, self.prices = currency, ()
        self.recent, self.recent_ms = Hour(), 0

    def advance(self, cards: Mapping[str, MeteredCard], held: Sequence[Held], now_ms: int) -> tuple[str, ...]:
        """Count everything up to now; ids of cards that are held and not described.

        Books that have counted nothing begin now. A clock that is behind the books counts nothing until it is not.
        """
        since = self.until_ms or now_ms
        self._hour(hour_of(since))
        unknown: set[str] = set()
        while since < now_ms:
            hour_ms = hour_of(since)
            until = min(hour_ms + HOUR_MS, now_ms)
            hour = self.hours.get(hour_ms)
            stored = hour.stored if hour else {}
            found = [replace(each, counted_ms=stored.get(owner_of(each.who), 0)) for each in held] if stored else held
            counted = charge(cards, found, since, until)
            self.add(hour_ms, counted, {card.kind: card.per_hour for card in cards.values()})
            unknown |= set(counted.unknown)
            self.recent_ms += until - since
            since = until
        self.until_ms = max(since, self.until_ms)
        return tuple(sorted(unknown))

    def add(self, hour_ms: int, counted: Charge, per_hour: Mapping[Kind, int]) -> None:
        """Add what was charged within one hour."""
        for hour in (self._hour(hour_ms), self.recent):
            for line, use in counted.lines.items():
                hour.lines[line] = hour.lines.get(line, Use()) + use
            for kind, time in counted.cards.items():
                hour.cards[kind] = hour.cards.get(kind, CardTime()) + time
            hour.per_hour.update(per_hour)

    def add_tokens(self, moment_ms: int, who: Who, counts: Mapping[str, Tokens]) -> None:
        """Add tokens that were counted, by served model."""
        for hour in (self._hour(hour_of(moment_ms)), self.recent):
            for model, tokens in counts.items():
                key = (who.tenant, who.namespace, who.workload, model)
                hour.tokens[key] = hour.tokens.get(key, Tokens()) + tokens

    def price(self, settings: TokenSettings) -> bool:
        """Price the models by what was counted since the last time; whether it was long enough to do so."""
        minutes = self.recent_ms / 60_000
        known = {price.model for price in self.prices}
        new = any(tokens and key[3] not in known for key, tokens in self.recent.tokens.items())
        if minutes < WINDOW_MINUTES and not new:
            return False
        window = Window(self.recent.lines, self.recent.cards, self.recent.tokens, minutes)
        self.prices = prices(window, self.prices, settings)
        self.recent, self.recent_ms = Hour(), 0
        return True

    def add_gap(self, moment_ms: int, sentence: str) -> None:
        """Note what the hour cannot know."""
        gaps = self._hour(hour_of(moment_ms)).gaps
        if sentence not in gaps:
            gaps.append(sentence)

    def records(self, closed_before_ms: int) -> Iterator[UsageRecord]:
        """Every record of the open hours, those of the cards last; hours that ended before a moment are closed."""
        for hour_ms, hour in sorted(self.hours.items()):
            closed = hour_of(hour_ms) + HOUR_MS <= closed_before_ms
            until = min(self.until_ms, hour_ms + HOUR_MS)
            owners = {owner_of(who) for who, _ in hour.lines} | {_token_owner(key) for key in hour.tokens}
            for owner in sorted(owners):
                yield self._record(hour_ms, hour, owner, max(until, hour.stored.get(owner, 0)), closed=closed)
            yield self._cards(hour_ms, hour, until, closed=closed)

    def drop_before(self, moment_ms: int) -> None:
        """Forget hours that ended before a moment: they are stored and closed."""
        self.hours = {start: hour for start, hour in self.hours.items() if start + HOUR_MS > moment_ms}

    # ---- inside
    def _hour(self, hour_ms: int) -> Hour:
        return self.hours.setdefault(hour_ms, Hour(currency=self.currency))

    def _note_currency(self) -> None:
        """The hour that is going on is counted on in the new currency; an hour that is over keeps its own."""
        for hour_ms, hour in self.hours.items():
            before = hour.currency
            if before != self.currency and hour_ms + HOUR_MS > self.until_ms:
                hour.currency, hour.prices = self.currency, ()
                if hour.cards:
                    sentence = f"costs of this hour are amounts in {before} at first, in {self.currency} later"
                    self.add_gap(hour_ms, f"{sentence}: compute them again with --prices FILE")

    def _record(self, hour_ms: int, hour: Hour, owner: Owner, until: int, *, closed: bool) -> UsageRecord:
        lines = {line: use for line, use in hour.lines.items() if owner_of(line[0]) == owner}
        rows = [usage_row(line, use) for line, use in fold(lines).items()]
        counts = {key: each for key, each in hour.tokens.items() if _token_owner(key) == owner}
        tokens = [TokenRow(*key[1:], each.input, each.cached, each.output) for key, each in fold_tokens(counts).items()]
        return UsageRecord(
            hour_ms, until, owner[0], owner[1], self.cluster, hour.currency, closed,
            rows=tuple(sorted(rows, key=_row_key)),
            tokens=tuple(sorted(tokens, key=lambda row: (row.namespace, row.workload, row.model))),
        )  # fmt: skip

    def _cards(self, hour_ms: int, hour: Hour, until: int, *, closed: bool) -> UsageRecord:
        newest = hour_ms == max(self.hours)
        return UsageRecord(
            hour_ms, until, cluster=self.cluster, currency=hour.currency, closed=closed,
            cards=tuple(card_row(kind, hour.cards[kind], _price(hour, kind)) for kind in sorted(hour.cards)),
            prices=fit_prices(self.prices if hour.currency == self.currency else hour.prices),
            counters=fit_counters(self.counters) if newest else (),
            gaps=fit_gaps(hour.gaps),
        )  # fmt: skip

    def _read(self, record: UsageRecord) -> None:
        hour = self._hour(record.hour_ms)
        hour.currency, hour.prices = record.currency, record.prices or hour.prices
        hour.stored[record.tenant, record.owner_namespace] = record.until_ms
        hour.gaps += record.gaps
        for row in record.rows:
            who = Who(record.tenant, row.namespace, row.workload, row.model)
            kind = Kind(row.card_class, row.card_model, row.supply, row.region)
            hour.lines[who, kind] = hour.lines.get((who, kind), Use()) + use_of(row)
        for tokens in record.tokens:
            key = (record.tenant, tokens.namespace, tokens.workload, tokens.model)
            hour.tokens[key] = Tokens(tokens.input, tokens.cached, tokens.output)
        for card in record.cards:
            kind = Kind(card.card_class, card.card_model, card.supply, card.region)
            hour.cards[kind] = time_of(card)
            hour.per_hour[kind] = int(card.per_hour * MICRO)


def owner_of(who: Who) -> Owner:
    """Which record a use belongs to."""
    return (who.tenant, "") if who.tenant else ("", who.namespace)


def _token_owner(key: TokenKey) -> Owner:
    return (key[0], "") if key[0] else ("", key[1])


def _row_key(row: UsageRow) -> tuple[str, ...]:
    return (row.namespace, row.workload, row.model, row.card_class, row.supply, row.region)


def _price(hour: Hour, kind: Kind) -> Decimal:
    return Decimal(hour.per_hour.get(kind, 0)) / MICRO
