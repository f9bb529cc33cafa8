"""The scheduler's advice about pods that accept several kinds of cards: one question over HTTP, bounded in time.

No answer never keeps a pod from being admitted: it gets the first kind of its list. After a failure nobody is asked for
a moment, so that a burst of pods waits once and not each for itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from kerf.http.poster import PostError
from kerf.obs.metrics import Metrics
from kerf.wire.admission import Answer, Review
from kerf.wire.choosing import PATH, parse_kind, render_question
from kerf.wire.errors import WireError
from webhook.core.kinds import Advice
from webhook.server.line import Line
from webhook.server.rules import Rules

_LOG = logging.getLogger("webhook.advice")
PAUSE_S = 1.0
"""After a failure nobody is asked for this long."""


class Adviser:
    """Asks one scheduler. Lives on the event loop of the server."""

    def __init__(
        self,
        rules: Rules,
        line: Line,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._line = line
        self._clock = clock
        self._silent_until = 0.0
        self._asked = metrics.counter(
            "kerf_webhook_kind_questions",
            "Questions to the scheduler about pods that accept kinds.",
            ("outcome",),
        )
        for outcome in ("answered", "unanswered", "paused"):
            self._asked.labels(outcome)

    async def advise(self, review: Review) -> Callable[[Review], Answer] | None:
        """What decides the review with the scheduler's advice; None where none is needed."""
        question = self._rules.question(review)
        if question is None:
            return None
        advice = await self._ask(render_question(question), self._rules.answer_s)
        return partial(self._rules.decide, advice=advice)

    async def _ask(self, body: bytes, seconds: float) -> Advice:
        if self._clock() < self._silent_until:
            self._asked.labels("paused").inc()
            return Advice(problem="the scheduler gave no answer a moment ago")
        try:
            async with asyncio.timeout(seconds):
                answer = Advice(parse_kind(await self._line.ask(PATH, body, seconds)))
        except (TimeoutError, PostError, WireError, ValueError) as error:
            self._silent_until = self._clock() + PAUSE_S
            self._asked.labels("unanswered").inc()
            why = f"none within {seconds:g} s" if isinstance(error, TimeoutError) else str(error)
            _LOG.warning("the scheduler chooses no kind (%s); pods get the first one that they accept", why)
            return Advice(problem=f"the scheduler gave no answer ({why})")
        self._asked.labels("answered").inc()
        return answer
