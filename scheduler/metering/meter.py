"""The meter: the leader's loop that counts use, writes the hours' records and keeps the totals for metrics.

A round counts everything up to now, exactly: what pods hold, and what ended since the last round, each from its bind
to its end. Between rounds nothing is lost, because the state remembers what ended; between leaders nothing is, because
each record says until when it counts and every replica remembers what ended. Where no replica ran, the nodes' own
records say which pods came and went.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import Metric

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.metering.book import Book
from kerf.metering.opencost import Holder
from kerf.metering.tokens import Start, TokenCounters
from kerf.metering.use import Held, MeteredCard
from kerf.obs.clock import TOLERANCE_MS
from kerf.obs.loop import Loop, run_every
from kerf.pricing.prices import PriceList
from kerf.values.engine import ModelReading, Tokens
from kerf.values.node import Node
from kerf.values.policy import MeteringSettings
from kerf.values.usage import HOUR_MS, TokenPrice, hour_of
from kerf.wire.usage import moment_text
from scheduler.metering.noderecords import NodeRecords
from scheduler.metering.observed import held_now, metered_cards, priced, who_of, who_was
from scheduler.metering.store import Records
from scheduler.metering.totals import MeterMetrics, Shown
from scheduler.state.bookings import Booking
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.metering")
ROUND_S = 15.0
LOOP = Loop("metering", every_s=ROUND_S, at_once=True, longest_pause_s=60.0, expected=(KubeError,))
GRACE_MS = 10 * 60_000
"""An hour is closed this long after its end."""
MOST_BACK_MS = 7 * 24 * HOUR_MS
"""After a longer time without a leader, what came before is not counted."""
PATIENCE_MS = 30_000
"""So long a new leader asks silent nodes again before it counts: an upgrade replaces device plugins too."""
KEEP_MS = 2 * HOUR_MS
"""How long a replica remembers what ended; a leader is elected long before."""
REST = 20
"""Times the length of a round that passes before the next, so that metering takes at most a twentieth of a core."""
MOST_COUNTERS = 8000


@dataclass(frozen=True, slots=True)
class Sources:
    """What the meter asks beside the store."""

    prices: Callable[[], PriceList]
    tenants: Callable[[], Mapping[str, str]]
    """Tenants by namespace."""
    node_records: NodeRecords | None = None


class Meter:
    """One term's books."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        sources: Sources,
        metrics: MeterMetrics,
    ) -> None:
        self._store = store
        self._records = Records(kube)
        self._sources = sources
        self._metrics = metrics
        self._kube = kube
        self.more: list[Callable[[str], tuple[Metric, ...]]] = []
        """Further families for the page, by the cluster's name."""
        self._lock = threading.Lock()
        self._book: Book | None = None
        self._prices = PriceList()
        """The list by which the hour is counted."""
        self._cards: dict[str, MeteredCard] = {}
        self._gone: dict[str, MeteredCard] = {}
        self._late: tuple[Held, ...] = ()
        self._counters = TokenCounters()
        self._watches_since = 0
        self._silent_since = 0
        self._written_at = float("-inf")
        self._swept_at = float("-inf")
        self._rests_until = float("-inf")
        self._skewed = False

    def run(self, stop: threading.Event) -> None:
        """Count until stopped, then write what was counted."""
        run_every(LOOP, self._tick, stop)
        self._metrics.page.clear()
        try:
            self.close()
        except KubeError as error:
            _LOG.info("the last round of this term is left to the next leader: %s", error)

    def run_once(self) -> None:
        """One round. Raises KubeError for what could not be read or written; what was counted is kept."""
        settings = self._settings
        if not settings.enabled:
            self._metrics.page.clear()
            self._book = None
            return
        if self._book is None and not self._take_over(settings):
            return
        self._count(settings)
        if time.monotonic() - self._written_at >= settings.write_s:
            self._write()
        if time.monotonic() - self._swept_at >= 3600.0:
            self._records.delete_old(self._store.ledger.now_ms(), settings.retention_days)
            self._swept_at = time.monotonic()

    def close(self) -> None:
        """Count and write for the last time. Raises KubeError."""
        if self._book is not None and self._settings.enabled:
            self._count(self._settings)
            self._write()

    @property
    def watches_since_ms(self) -> int:
        """Engines that started after this moment are counted from zero; 0 before the books are there."""
        return self._watches_since

    def measured_tokens(self) -> dict[int, dict[str, Tokens]]:
        """What engines counted in the hours that are open, by hour and served model."""
        found: dict[int, dict[str, Tokens]] = {}
        with self._lock:
            for start, hour in self._book.hours.items() if self._book else ():
                models = found.setdefault(start, {})
                for (*_, model), tokens in hour.tokens.items():
                    models[model] = models.get(model, Tokens()) + tokens
        return found

    @property
    def token_prices(self) -> tuple[TokenPrice, ...]:
        """What a million tokens of each model cost, as last priced."""
        with self._lock:
            return self._book.prices if self._book else ()

    def count_tokens(self, booking: Booking, start: Start, models: Sequence[ModelReading]) -> None:
        """An engine was read."""
        with self._lock:
            if self._book is None:
                return
            counts = self._counters.read(start, models)
            if counts:
                self._book.add_tokens(self._store.ledger.now_ms(), who_of(booking, self._sources.tenants()), counts)

    def keep_counters(self, uids: Sequence[str]) -> None:
        """Only these pods are left."""
        with self._lock:
            self._counters.keep(uids)

    # ---- inside
    def _tick(self) -> None:
        """A round, unless the last one was so long that it has to rest: a leader with 40,000 pods also places some."""
        if time.monotonic() < self._rests_until:
            return
        started = time.monotonic()
        self.run_once()
        took = time.monotonic() - started
        self._rests_until = started + took + took * REST

    @property
    def _settings(self) -> MeteringSettings:
        return self._store.desk.policy.metering

    def _take_over(self, settings: MeteringSettings) -> bool:
        """Go on from the records; False where nodes are to be asked again first. Nothing is lost by that."""
        self._align()
        now = self._store.ledger.now_ms()
        found = self._records.recent(now)
        self._prices = self._sources.prices()
        book = Book.taken_over(found, settings.cluster, self._prices.currency)
        if book.until_ms and book.until_ms < now - MOST_BACK_MS:
            book.add_gap(
                now, f"nothing is known between {moment_text(book.until_ms)} and {moment_text(now - MOST_BACK_MS)}"
            )
            book.until_ms = now - MOST_BACK_MS
        if not self._fill_in(book, now):
            return False
        with self._lock:
            self._book = book
            self._counters = TokenCounters(book.counters)
            self._watches_since = book.until_ms or now
        return True

    def _fill_in(self, book: Book, now: int) -> bool:
        """Pods that came and went while no replica ran, by the nodes' records; False while some may yet answer."""
        known_since = self._store.ledger.ended_since_ms()
        if not book.until_ms or known_since <= book.until_ms or self._sources.node_records is None:
            return True
        known = {booking.uid for booking in self._store.ledger.bookings()}
        known |= {each.booking.uid for each in self._store.ledger.held_and_ended()[1]}
        answer = self._sources.node_records.read(book.until_ms, self._store.desk.node_names())
        with_cards = {node.name for node in self._store.desk.nodes() if node.cards}  # the others have nothing to say
        silent = [node for node in answer.silent if node in with_cards]
        self._silent_since = self._silent_since or now
        if silent and now - self._silent_since < PATIENCE_MS:
            return False
        tenants = self._sources.tenants()
        self._late = tuple(
            Held(
                record.uid,
                who_was(record, tenants),
                record.uses,
                record.start_ms,
                min(record.end_ms or known_since, now),
            )
            for record in answer.records
            if record.uid not in known and (record.end_ms or now) > book.until_ms
        )
        for node in silent:
            span = f"between {moment_text(book.until_ms)} and {moment_text(known_since)}"
            book.add_gap(book.until_ms, f"node {node}: pods that ended {span} are not known")
            self._metrics.gaps.inc()
        _LOG.info("%d pods of the nodes' records are filled in, %d nodes are silent", len(self._late), len(silent))
        return True

    def _count(self, settings: MeteringSettings) -> None:
        now = self._store.ledger.now_ms()
        book = self._book
        if book is None:
            return
        live, ended = self._store.ledger.held_and_ended()
        held = (*held_now(live, ended, self._sources.tenants(), now), *self._late)
        before = book.until_ms
        self._take_prices(book, held, now)
        self._cards = self._cards_now(settings, live)
        with self._lock:
            unknown = book.advance({**self._cards, **self._gone}, held, now)
        self._show(settings, book, live)
        self._late = tuple(each for each in self._late if each.end_ms > now)
        self._store.ledger.forget_ended(min(before or now, now - KEEP_MS))
        self._metrics.unknown.set(len(unknown))
        self._watch_clock()

    def _take_prices(self, book: Book, held: Sequence[Held], now: int) -> None:
        """The newest list. One in another currency counts from the next full hour on, so that no hour mixes two."""
        newest = self._sources.prices()
        if newest.currency != book.currency:
            if hour_of(now) <= hour_of(book.until_ms or now):
                return
            with self._lock:
                book.advance({**self._cards, **self._gone}, held, hour_of(now))
                book.change_currency(newest.currency)
            _LOG.info("costs are amounts in %s from %s on", newest.currency, moment_text(hour_of(now)))
        self._prices = newest

    def _cards_now(self, settings: MeteringSettings, live: Sequence[Booking]) -> dict[str, MeteredCard]:
        """The cards of the inventory; those that are gone count for as long as a pod holds them."""
        found = metered_cards(self._store.desk.nodes(), self._prices, settings.supply)
        held = {card for booking in live for card in booking.uses}
        lost = {**self._gone, **{card: known for card, known in self._cards.items() if card not in found}}
        kept = (known for card, known in lost.items() if card in held and card not in found)
        self._gone = {card.id: priced(card, self._prices) for card in kept}
        return found

    def _show(self, settings: MeteringSettings, book: Book, live: Sequence[Booking]) -> None:
        page = self._metrics.page
        with self._lock:
            lines, cards = page.totals(book)
            prices = book.prices
        holders: tuple[Holder, ...] = ()
        nodes: tuple[Node, ...] = ()
        if settings.open_cost:
            holders = tuple(Holder(b.key, b.node, b.holding.grant, b.uses) for b in live if b.holding is not None)
            nodes = tuple(self._store.desk.nodes())
        more = tuple(family for each in self.more for family in each(book.cluster))
        page.show(Shown(book.cluster, book.currency, lines, cards, self._cards, prices, holders, nodes, more))

    def _write(self) -> None:
        now = self._store.ledger.now_ms()
        with self._lock:
            book = self._book
            if book is not None:
                book.price(self._settings.tokens)
                book.counters = self._counters.rows()[:MOST_COUNTERS]
            records = list(book.records(now - GRACE_MS)) if book else []
        self._metrics.writes.inc(self._records.write(records))
        self._written_at = time.monotonic()
        with self._lock:
            if book is not None:
                before = hour_of(min(now - GRACE_MS, book.until_ms))
                self._metrics.page.keep(book, before)
                book.drop_before(before)
        self._records.forget(record.name for record in records if record.closed)

    def _align(self) -> None:
        """Binds are written with the API server's time, so ends are counted by it, too, whatever this machine says."""
        moment = self._kube.moment_ms()
        later = self._store.ledger.align(moment) if moment is not None else 0
        if later:
            _LOG.warning("this machine's clock is %.0f s behind the API server's, which counts", later / 1000)

    def _watch_clock(self) -> None:
        skew = self._store.ledger.skew_ms()
        self._metrics.skew.set(skew / 1000)
        if abs(skew) > TOLERANCE_MS and not self._skewed:
            self._skewed = True
            _LOG.warning("the time of day is ahead of what is metered by %.1f s", skew / 1000)
