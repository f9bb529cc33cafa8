"""What the webhook asks before the API server stores an allocation that kube-scheduler has made."""

import logging

from kerf.wire.allocations import parse_question, render_answer
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.claims")
AGAIN = "kube-scheduler tries again"


class ClaimCount:
    """Counts what a claim is about to hold, or says why quota has no room. Only a leader is asked."""

    def __init__(self, store: Store, metrics: SchedulerMetrics) -> None:
        self._allocations = store.allocations
        self._metrics = metrics

    def answer(self, body: bytes) -> bytes:
        """POST /claims. Raises WireError."""
        question = parse_question(body)
        why = self._allocations.refusal(question.claim, question.based_on, keep=question.keep)
        self._metrics.claims.labels("refused" if why else "allowed").inc()
        if why:
            _LOG.info("claim %s is not allocated: %s", question.claim.key, why)
        return render_answer(f"claim {question.claim.key}: {why}; {AGAIN}" if why else "")
