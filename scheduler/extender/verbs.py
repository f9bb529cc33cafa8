"""The read-only verbs: decode, ask the engine under the lock, encode. They write nothing, anywhere."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk
from kerf.values.verdict import FOREVER, Misfit, Reason
from kerf.wire.errors import WireError
from kerf.wire.extender import (
    NodesQuery,
    parse_nodes_query,
    parse_preempt_query,
    render_filter,
    render_scores,
    render_victims,
)
from kerf.wire.resources import parse_pod
from scheduler.core.explain import short_reason
from scheduler.core.victims import choose_victims
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.extender")
MOST_RANKS = 9_999
"""Distinct scores. kube-scheduler multiplies by 10; one point of a wish that the user wrote into the pod weighs
100,000, so wishes always come first and the packing decides among what they leave."""
MAKING_ROOM = "less important pods are ending to make room on the cards"
MOST_ASKS = 4096
"""Parsed asks remembered between filter and prioritize of one pod."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is refused everywhere, whatever the cards say."""

    text: str
    final: bool


class Verbs:
    """Filter, prioritize and preempt over a store. Called from one thread."""

    def __init__(self, store: Store, metrics: SchedulerMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._names = store.names
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
        with self._store.lock:
            held = self._store.reservation(ask.uid)
            if held is not None and held.node in query.nodes:
                if not self._store.ledger.ready(held):
                    return render_filter([], dict.fromkeys(query.nodes, MAKING_ROOM), {})
                return render_filter([held.node], self._held_elsewhere(query, held.node), {})
            if held is not None:
                self._store.drop_reservation(ask.uid)
            if gang := self._store.gang_note(ask):
                self._refuse(ask, query.nodes)
                return render_filter([], dict.fromkeys(query.nodes, gang), {})
            places = [name for name in self._store.held_places.nodes(ask) if name in query.nodes]
            if places:
                others = dict.fromkeys((n for n in query.nodes if n not in places), short_reason(Reason.RESERVED))
                return render_filter(places, others, {})
            narrowed = self._store.quotas.narrow(ask)
            if isinstance(narrowed, Misfit):  # no plan and no eviction would help: nobody else needs to know
                self._metrics.refusals.labels(Reason.QUOTA.name.lower()).inc(len(query.nodes))
                return render_filter([], dict.fromkeys(query.nodes, narrowed.detail), {})
            return self._filter(narrowed, query)

    def prioritize(self, body: bytes) -> bytes:
        """POST /prioritize: a total order, no two nodes alike, so that kube-scheduler's random ties decide nothing."""
        query = parse_nodes_query(body)
        ask = self._ask(query.pod)
        names = list(query.nodes)
        if not ask.containers:
            return render_scores(names, [0] * len(names))
        with self._store.lock:
            narrowed = self._store.quotas.narrow(ask)
            ask = ask if isinstance(narrowed, Misfit) else narrowed
            scores = self._store.engine.scores(ask, self._store.fleet.rows(names))
            planned = self._store.pending.planned.get(ask.uid)
        if planned in names:
            scores[names.index(planned)] = scores.max() + 1
        return render_scores(names, rank(scores).tolist())

    def preempt(self, body: bytes) -> bytes:
        """POST /preempt: for each candidate node the fewest, least important pods whose cards make room."""
        query = parse_preempt_query(body)
        ask = self._ask(query.pod)
        answer = {}
        with self._store.lock:
            for node, (uids, violations) in sorted(query.victims.items()):
                chosen = choose_victims(
                    ask, self._store.fleet.state(node), self._store.ledger.evictable(node, ask), self._place
                )
                if chosen == ():  # not the cards are short but CPU, memory or slots, and those kube-scheduler knows
                    answer[node] = (uids, violations)
                elif chosen:
                    answer[node] = (chosen, min(violations, len(chosen)))
        return render_victims(answer)

    def _place(self, ask: PodAsk, state: Any) -> Any:  # noqa: ANN401 (NodeState in, Grant or Misfit out)
        return self._store.engine.place_on(ask, state)

    def _filter(self, ask: PodAsk, query: NodesQuery) -> bytes:
        names = query.nodes
        rows = self._store.fleet.rows(names)
        answer = self._store.engine.query(ask, rows)
        fits = [names[i] for i in np.flatnonzero(answer.feasible)]
        failed: dict[str, str] = {}
        never: dict[str, str] = {}
        refused = np.flatnonzero(~answer.feasible)
        if len(refused):
            self._sort_out(names, refused, answer.reasons, failed, never)
        if not fits and len(refused):
            self._refuse(ask, names)
            told = self._store.engine.explain(ask, rows)
            where = failed if told.node in failed or not never else never
            where[told.node or names[0]] = told.sentence
        return render_filter(fits, failed, never)

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

    def _refuse(self, ask: PodAsk, names: Sequence[str]) -> None:
        self._store.pending.refuse(ask.uid, names, all_nodes=len(self._store.fleet))

    def _held_elsewhere(self, query: NodesQuery, node: str) -> dict[str, str]:
        text = short_reason(Reason.RESERVED)
        return {name: text for name in query.nodes if name != node}

    def _ask(self, pod: Any) -> PodAsk:  # noqa: ANN401 (raw JSON)
        meta = pod.get("metadata") or {}
        key = (str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
        ask = self._asks.get(key)
        if ask is None or not key[1]:
            ask = parse_pod(pod, self._names, self._store.policy.defaults)
            self._asks[key] = ask
            if len(self._asks) > MOST_ASKS:
                self._asks.popitem(last=False)
        return ask


def rank(scores: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the order of the scores, best highest, down to 0 for all beyond the best MOST_RANKS."""
    places = np.empty(len(scores), np.int64)
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return np.maximum(places - max(len(scores) - 1 - MOST_RANKS, 0), 0)
