"""The read-only verbs: decode, ask the desk, encode. They write nothing, anywhere.

Lists of names in the form that kube-scheduler writes take the short way (`scheduler.core.node_list`); any other form is
decoded whole.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerf.values.ask import PodAsk
from kerf.values.verdict import FOREVER, Reason
from kerf.wire.errors import WireError
from kerf.wire.extender import (
    MOST_NODES,
    parse_nodes_query,
    parse_pod_part,
    parse_preempt_query,
    render_filter,
    render_filter_parts,
    render_names,
    render_scores,
    render_victims,
    split_nodes_query,
)
from kerf.wire.json import at
from kerf.wire.resources import parse_pod
from scheduler.core.columns import Ints
from scheduler.core.explain import short_reason
from scheduler.core.node_list import MOST_SCORE, NodeList, Roster
from scheduler.metrics import SchedulerMetrics
from scheduler.state.answers import ByCards
from scheduler.state.desk import Desk

_LOG = logging.getLogger("kerf.extender")
MOST_RANKS = MOST_SCORE
"""Distinct scores. kube-scheduler multiplies by 10; one point of a wish that the user wrote into the pod weighs
100,000, so wishes always come first and the packing decides among what they leave."""
MOST_ASKS = 4096
"""Parsed asks remembered between filter and prioritize of one pod."""
MOST_OFFERED = 4
"""Lists that filter answered and prioritize is expected to ask about, word for word."""
_SPARE_NAMES = 1024

Refused = list[tuple[Ints, str]]
"""Places in the asked list, and why these nodes do not take the pod."""


def _knows_no_kinds(_body: bytes) -> bytes:
    raise WireError("kinds", "", "this program answers filter, prioritize and preempt alone")


def _counts_no_claims(_body: bytes) -> bytes:
    raise WireError("claims", "", "start the scheduler with --dra, which counts what claims hold")


class Verbs:
    """Filter, prioritize and preempt, called from one thread; by `kinds` and `claims` the webhook's questions.

    `kinds` is called from another thread.
    """

    def __init__(
        self,
        desk: Desk,
        metrics: SchedulerMetrics,
        kinds: Callable[[bytes], bytes] = _knows_no_kinds,
        claims: Callable[[bytes], bytes] = _counts_no_claims,
    ) -> None:
        self.kinds = kinds
        self.claims = claims
        self.precedence = desk.precedence
        """Held while an answer of the other verbs is made."""
        self._desk = desk
        self._metrics = metrics
        self._asks: OrderedDict[tuple[str, str], PodAsk] = OrderedDict()
        self._last: tuple[bytes, PodAsk] | None = None
        """The pod's part of the last query: prioritize sends the same bytes as filter."""
        self._roster = Roster()
        self._offered: list[NodeList] = []

    def filter(self, body: bytes) -> bytes:
        """POST /filter: every node on which the pod fits."""
        try:
            ask, names = self._query(body)
        except _PodError as error:
            return _render(error.names, (), [], [(np.arange(len(error.names)), str(error))])
        if not ask.containers:
            return self._answer(names, names, [], [])
        where = self._desk.where(ask, names)
        if isinstance(where, ByCards):
            failed, never = self._sort_out(names, where)
            return self._answer(names, where.fits, failed, never)
        if where.over_quota:
            self._metrics.refusals.labels(Reason.QUOTA.name.lower()).inc(len(names))
        fits = frozenset(where.fits)
        others = np.array([i for i, name in enumerate(names) if name not in fits], np.int64)
        return self._answer(names, where.fits, [(others, where.note)], [])

    def prioritize(self, body: bytes) -> bytes:
        """POST /prioritize: a total order, no two nodes alike, so that kube-scheduler's random ties decide nothing."""
        try:
            ask, names = self._query(body)
        except _PodError as error:
            raise error.cause from error
        places: Ints = rank(self._desk.order(ask, names)) if ask.containers else np.zeros(len(names), np.int64)
        if isinstance(names, NodeList):
            return names.roster.scored(names.numbers, places)
        return render_scores(list(names), places.tolist())

    def preempt(self, body: bytes) -> bytes:
        """POST /preempt: for each candidate node the fewest, least important pods whose cards make room."""
        query = parse_preempt_query(body)
        ask = self._ask(query.pod)
        answer = {}
        for node, chosen in self._desk.victims(ask, query.victims).items():
            uids, violations = query.victims[node]
            if chosen == ():  # not the cards are short but CPU, memory or slots, and those kube-scheduler knows
                if not self._desk.spares_guarantees(ask, uids):
                    continue
                answer[node] = (uids, violations)
            elif chosen:
                answer[node] = (chosen, min(violations, len(chosen)))
        return render_victims(answer)

    # ---- reading
    def _query(self, body: bytes) -> tuple[PodAsk, Sequence[str]]:
        """What the pod asks for, and the nodes. Raises _PodError where only the pod is at fault, else WireError."""
        parts = split_nodes_query(body)
        names = self._names(parts[1]) if parts is not None else None
        if parts is None or names is None:
            query = parse_nodes_query(body)
            return self._of_pod(query.pod, query.nodes), query.nodes
        if self._last is not None and self._last[0] == parts[0]:
            return self._last[1], names
        ask = self._of_pod(parse_pod_part(parts[0]), names)
        self._last = (parts[0], ask)
        return ask, names

    def _names(self, text: bytes) -> NodeList | None:
        for offered in self._offered:
            if offered.text == text:
                return offered
        if len(self._roster.names) > 4 * self._desk.node_count + _SPARE_NAMES:
            self._roster, self._offered = Roster(), []  # most of its nodes have gone
        names = self._roster.read(text)
        return names if names is not None and len(names) <= MOST_NODES else None

    def _of_pod(self, pod: Mapping[str, Any], names: Sequence[str]) -> PodAsk:
        try:
            return self._ask(pod)
        except WireError as error:
            raise _PodError(error, names) from error

    def _ask(self, pod: Mapping[str, Any]) -> PodAsk:
        meta = at(pod, "metadata")
        key = (str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
        ask = self._asks.get(key)
        if ask is None or not key[1]:
            ask = parse_pod(pod, self._desk.names, self._desk.policy.defaults)
            self._asks[key] = ask
            if len(self._asks) > MOST_ASKS:
                self._asks.popitem(last=False)
        return ask

    # ---- writing
    def _answer(self, names: Sequence[str], fits: Sequence[str], failed: Refused, never: Refused) -> bytes:
        if isinstance(fits, NodeList):
            self._offered = [fits, *self._offered[: MOST_OFFERED - 1]]
        return _render(names, fits, failed, never)

    def _sort_out(self, names: Sequence[str], where: ByCards) -> tuple[Refused, Refused]:
        """The refused nodes by reason: those that may fit after a preemption, and those that never will."""
        failed: Refused = []
        never: Refused = []
        nearest = -1
        if where.why is not None and len(names):
            nearest = names.index(where.why.node) if where.why.node else 0
        for reason, places in self._by_reason(np.flatnonzero(where.reasons), where.reasons):
            (never if reason in FOREVER else failed).append((places[places != nearest], short_reason(reason)))
        if where.why is not None and nearest >= 0:
            lasting = not where.why.node or Reason(int(where.reasons[nearest])) in FOREVER
            (never if lasting and never else failed).append((np.array([nearest]), where.why.sentence))
        return failed, never

    def _by_reason(self, refused: NDArray[np.intp], reasons: NDArray[np.uint8]) -> Iterator[tuple[Reason, Ints]]:
        found, counts = np.unique(reasons[refused], return_counts=True)
        for code, count in zip(found.tolist(), counts.tolist(), strict=True):
            reason = Reason(code)
            self._metrics.refusals.labels(reason.name.lower()).inc(count)
            yield reason, refused[reasons[refused] == code]


class _PodError(Exception):
    """The pod cannot be read; the nodes can."""

    def __init__(self, cause: WireError, names: Sequence[str]) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.names = names


def _render(names: Sequence[str], fits: Sequence[str], failed: Refused, never: Refused) -> bytes:
    if isinstance(names, NodeList):
        text = fits.text if isinstance(fits, NodeList) else render_names(fits)
        return render_filter_parts(text, _entries(names, failed), _entries(names, never))
    return render_filter(list(fits), _by_name(names, failed), _by_name(names, never))


def _entries(names: NodeList, refused: Refused) -> bytes:
    told = (names.roster.entries(names.numbers[places], reason) for places, reason in refused)
    return b",".join(filter(None, told))


def _by_name(names: Sequence[str], refused: Refused) -> dict[str, str]:
    return {names[i]: reason for places, reason in refused for i in places.tolist()}


def rank(scores: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the order of the scores, best highest, down to 0 for all beyond the best MOST_RANKS."""
    places = np.empty(len(scores), np.int64)
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    ranked: Ints = np.maximum(places - max(len(scores) - 1 - MOST_RANKS, 0), 0)
    return ranked
