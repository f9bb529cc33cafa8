"""Asks the scheduler's leader about allocations of claims. Without an answer nothing is allocated."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from kerf.http.poster import PostError
from kerf.obs.metrics import Metrics
from kerf.wire.admission import Answer, Review
from kerf.wire.allocations import PATH, UNCOUNTED, parse_answer
from kerf.wire.errors import WireError
from webhook.core.claims import claim_answer, claim_question
from webhook.server.line import Line

_LOG = logging.getLogger("webhook.claims")
ANSWER_S = 2.0
"""An answer that is older is not used: by then another replica may lead (docs/adr/0048)."""
NO_LINE = "the webhook was started without --scheduler, so no quota counts this claim of gpu.kerf.dev"


class ClaimDesk:
    """One question for each allocation."""

    def __init__(self, line: Line | None, metrics: Metrics) -> None:
        self._line = line
        self._asked = metrics.counter(
            "kerf_webhook_claim_questions", "Questions to the scheduler about allocations of claims.", ("outcome",)
        )
        for outcome in ("answered", "unanswered"):
            self._asked.labels(outcome)

    async def advise(self, review: Review) -> Callable[[Review], Answer] | None:
        """What decides the review; None where it allocates none of Kerf's devices."""
        question = claim_question(review)
        return None if question is None else partial(_decide, await self._ask(question))

    async def _ask(self, question: bytes) -> str:
        if self._line is None:
            return NO_LINE
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = parse_answer(await self._line.ask(PATH, question, ANSWER_S))
        except (TimeoutError, PostError, WireError, ValueError) as error:
            self._asked.labels("unanswered").inc()
            why = f"no answer in {ANSWER_S:g} s" if isinstance(error, TimeoutError) else str(error)
            _LOG.warning("the scheduler counts no claim now: %s", why)
            return f"{UNCOUNTED}, and did not ({why}): kube-scheduler tries again"
        self._asked.labels("answered").inc()
        return answer


def _decide(why: str, _review: Review) -> Answer:
    return claim_answer(why)
