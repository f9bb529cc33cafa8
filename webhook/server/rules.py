"""The rules with the newest policy and accounts, and what was admitted a moment ago."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from kerf.sizing.catalogue import Row
from kerf.values.accounts import TenantAccount
from kerf.values.learned import Learned
from kerf.values.policy import SchedulingPolicy
from kerf.wire.admission import Answer, Review
from kerf.wire.choosing import KindQuestion
from webhook.core.kinds import NO_ADVICE, Advice
from webhook.core.mutate import decide, question
from webhook.core.recent import NOTHING_RECENT
from webhook.core.settings import Settings, by_namespace


class Rules:
    """Answers reviews. Call `decide` from one thread; the other methods are safe from any."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._shipped = settings.catalogue
        self._clock = clock
        self._recent = NOTHING_RECENT
        self._lock = threading.Lock()

    def adopt(self, policy: SchedulingPolicy) -> None:
        """Use another policy from the next review on."""
        with self._lock:
            self._settings = replace(
                self._settings,
                defaults=policy.defaults,
                quota=policy.quota,
                admission=policy.admission,
                accepts=policy.accepts,
                learning=policy.learning.mode,
            )

    def know(self, books: tuple[TenantAccount, ...]) -> None:
        """Use other books from the next review on."""
        with self._lock:
            self._settings = replace(self._settings, tenants=by_namespace(books))

    def offer(self, rows: tuple[Row, ...]) -> None:
        """Know these models beside the shipped ones from the next review on."""
        catalogue = self._shipped.beside(rows) if rows else self._shipped
        with self._lock:
            self._settings = replace(self._settings, catalogue=catalogue)

    def learn(self, found: tuple[Learned, ...]) -> None:
        """Know what servers of models were seen to hold, from the next review on."""
        with self._lock:
            self._settings = replace(self._settings, learned=found[0] if found else Learned())

    def question(self, review: Review) -> KindQuestion | None:
        """What the scheduler is to be asked before this review is decided, if anything."""
        return question(review, self._settings, self._recent, self._clock())

    @property
    def answer_s(self) -> float:
        """How long its answer may take."""
        return self._settings.accepts.answer_s

    def decide(self, review: Review, advice: Advice = NO_ADVICE) -> Answer:
        """Answer one review."""
        decision = decide(review, self._settings, self._recent, self._clock(), advice)
        self._recent = decision.recent
        return decision.answer
