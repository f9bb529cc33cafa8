"""The read-only verbs: decode, ask the desk, encode. They write nothing, anywhere."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk
from kerf.values.verdict import FOREVER, Reason
from kerf.wire.errors import WireError
from kerf.wire.extender import (
    parse_nodes_query,
    parse_preempt_query,
    render_filter,
    render_scores,
    render_victims,
)
from kerf.wire.json import at
from kerf.wire.resources import parse_pod
from scheduler.core.explain import short_reason
from scheduler.metrics import SchedulerMetrics
from scheduler.state.answers import ByCards
from scheduler.state.desk import Desk

_LOG = logging.getLogger("kerf.extender")
MOST_RANKS = 9_999
"""Distinct scores. kube-scheduler multiplies by 10; one point of a wish that the user wrote into the pod weighs
100,000, so wishes always come first and the packing decides among what they leave."""
MOST_ASKS = 4096
"""Parsed asks remembered between filter and prioritize of one pod."""


class Verbs:
    """Filter, prioritize and preempt. Called from one thread."""

    def __init__(self, desk: Desk, metrics: SchedulerMetrics) -> None:
        self._desk = desk
        self._metrics = metrics
        self._asks: OrderedDict[tuple[str, str], PodAsk] = OrderedDict()

    def filter(self, body: bytes) -> bytes:
        """POST /filter: every node on which the pod fits."""
        query = parse_nodes_query(body)
        try:
            ask = self._ask(query.pod)
        except WireError as error:
            return render_filter([], {}, dict.fromkeys(query.nodes, str(error)))
        if not ask.containers:
            return render_filter(list(query.nodes), {}, {})
        where = self._desk.where(ask, query.nodes)
        if isinstance(where, ByCards):
            return self._by_cards(query.nodes, where)
        if where.over_quota:
            self._metrics.refusals.labels(Reason.QUOTA.name.lower()).inc(len(query.nodes))
        fits = frozenset(where.fits)
        return render_filter(where.fits, {name: where.note for name in query.nodes if name not in fits}, {})

    def prioritize(self, body: bytes) -> bytes:
        """POST /prioritize: a total order, no two nodes alike, so that kube-scheduler's random ties decide nothing."""
        query = parse_nodes_query(body)
        ask = self._ask(query.pod)
        names = list(query.nodes)
        if not ask.containers:
            return render_scores(names, [0] * len(names))
        return render_scores(names, rank(self._desk.order(ask, names)).tolist())

    def preempt(self, body: bytes) -> bytes:
        """POST /preempt: for each candidate node the fewest, least important pods whose cards make room."""
        query = parse_preempt_query(body)
        ask = self._ask(query.pod)
        answer = {}
        for node, chosen in self._desk.victims(ask, query.victims).items():
            uids, violations = query.victims[node]
            if chosen == ():  # not the cards are short but CPU, memory or slots, and those kube-scheduler knows
                answer[node] = (uids, violations)
            elif chosen:
                answer[node] = (chosen, min(violations, len(chosen)))
        return render_victims(answer)

    def _by_cards(self, names: Sequence[str], where: ByCards) -> bytes:
        failed: dict[str, str] = {}
        never: dict[str, str] = {}
        refused = np.flatnonzero(where.reasons)
        if len(refused):
            self._sort_out(names, refused, where.reasons, failed, never)
        if where.why is not None:
            nearest = where.why.node
            (failed if nearest in failed or not never else never)[nearest or names[0]] = where.why.sentence
        return render_filter(where.fits, failed, never)

    def _sort_out(
        self,
        names: Sequence[str],
        refused: NDArray[np.intp],
        reasons: NDArray[np.uint8],
        failed: dict[str, str],
        never: dict[str, str],
    ) -> None:
        found, counts = np.unique(reasons[refused], return_counts=True)
        for code, count in zip(found.tolist(), counts.tolist(), strict=True):
            reason = Reason(code)
            self._metrics.refusals.labels(reason.name.lower()).inc(count)
            text = short_reason(reason)
            where = never if reason in FOREVER else failed
            where.update((names[i], text) for i in refused[reasons[refused] == code].tolist())

    def _ask(self, pod: Any) -> PodAsk:  # noqa: ANN401 (raw JSON)
        meta = at(pod, "metadata")
        key = (str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
        ask = self._asks.get(key)
        if ask is None or not key[1]:
            ask = parse_pod(pod, self._desk.names, self._desk.policy.defaults)
            self._asks[key] = ask
            if len(self._asks) > MOST_ASKS:
                self._asks.popitem(last=False)
        return ask


def rank(scores: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the order of the scores, best highest, down to 0 for all beyond the best MOST_RANKS."""
    places = np.empty(len(scores), np.int64)
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return np.maximum(places - max(len(scores) - 1 - MOST_RANKS, 0), 0)
