"""The read-only verbs: decode, ask the desk, encode. They write nothing, anywhere.

Lists of names in the form that kube-scheduler writes take the short way (`scheduler.core.node_list`); any other form is
decoded whole.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerf.values.policy import Offer
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
from scheduler.core.columns import Ints
from scheduler.core.explain import short_reason
from scheduler.core.node_list import MOST_SCORE, NodeList, Roster, take
from scheduler.extender.asks import Asked, Asks
from scheduler.metrics import SchedulerMetrics
from scheduler.state.answers import ByCards
from scheduler.state.desk import Desk

_LOG = logging.getLogger("kerf.extender")
MOST_RANKS = MOST_SCORE
"""Distinct scores. kube-scheduler multiplies by 10; one point of a wish that the user wrote into the pod weighs
100,000, so wishes always come first and the packing decides among what they leave."""
FEW = 64
"""Among so few nodes kube-scheduler may as well choose itself: it asks about them and weighs them in no time."""
MOST_NAMED = 4096
"""Pods remembered for which filter has named one node."""
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
        self.preempts: Callable[[str, Collection[str]], None] = lambda *_: None
        """Hears of a pod, by uid, for which kube-scheduler may end others on these nodes."""
        self._desk = desk
        self._metrics = metrics
        self._asks = Asks(desk.vendors)
        self._named: OrderedDict[str, None] = OrderedDict()
        """Pods for which filter has named one node. Who asks again could not use it, and gets all nodes."""
        self._last: tuple[bytes, Asked] | None = None
        """The pod's part of the last query: prioritize sends the same bytes as filter."""
        self._roster = Roster()
        self._offered: list[NodeList] = []

    def filter(self, body: bytes) -> bytes:
        """POST /filter: every node on which the pod fits, or the best one where kube-scheduler would take no other."""
        try:
            asked, names = self._query(body)
        except _PodError as error:
            return _render(error.names, (), [], [(np.arange(len(error.names)), str(error))])
        ask = asked.ask
        if not ask.containers:
            return self._answer(names, names, [], [])
        where = self._desk.where(ask, names)
        if isinstance(where, ByCards):
            if (best := self._best(asked, where.fits)) is not None:
                self._count(where.reasons)
                return _render(names, best, [], [])
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
            asked, names = self._query(body)
        except _PodError as error:
            raise error.cause from error
        ask = asked.ask
        places: Ints = rank(self._desk.order(ask, names)) if ask.containers else np.zeros(len(names), np.int64)
        if isinstance(names, NodeList):
            return names.roster.scored(names.numbers, places)
        return render_scores(list(names), places.tolist())

    def preempt(self, body: bytes) -> bytes:
        """POST /preempt: for each candidate node the fewest, least important pods whose cards make room."""
        query = parse_preempt_query(body)
        ask = self._asks.read(query.pod, self._desk.policy.defaults).ask
        answer = {}
        for node, chosen in self._desk.victims(ask, query.victims).items():
            uids, violations = query.victims[node]
            if chosen == ():  # not the cards are short but CPU, memory or slots, and those kube-scheduler knows
                if not self._desk.spares_guarantees(ask, uids):
                    continue
                answer[node] = (uids, violations)
            elif chosen:
                answer[node] = (chosen, min(violations, len(chosen)))
        self.preempts(ask.uid, answer.keys())
        return render_victims(answer)

    # ---- reading
    def _query(self, body: bytes) -> tuple[Asked, Sequence[str]]:
        """The pod and the nodes. Raises _PodError where only the pod is at fault, else WireError."""
        parts = split_nodes_query(body)
        names = self._names(parts[1]) if parts is not None else None
        if parts is None or names is None:
            query = parse_nodes_query(body)
            return self._of_pod(query.pod, query.nodes), query.nodes
        if self._last is not None and self._last[0] == parts[0]:
            return self._last[1], names
        asked = self._of_pod(parse_pod_part(parts[0]), names)
        self._last = (parts[0], asked)
        return asked, names

    def _names(self, text: bytes) -> NodeList | None:
        for offered in self._offered:
            if offered.text == text:
                return offered
        if len(self._roster.names) > 4 * self._desk.node_count + _SPARE_NAMES:
            self._roster, self._offered = Roster(), []  # most of its nodes have gone
        names = self._roster.read(text)
        return names if names is not None and len(names) <= MOST_NODES else None

    def _of_pod(self, pod: Mapping[str, Any], names: Sequence[str]) -> Asked:
        try:
            return self._asks.read(pod, self._desk.policy.defaults)
        except WireError as error:
            raise _PodError(error, names) from error

    # ---- deciding
    def _best(self, asked: Asked, fits: Sequence[str]) -> Sequence[str] | None:
        """The one node to name; None where kube-scheduler gets all that fit.

        It gets all where it may have reason to take another one: the pod prefers something, another pod's affinity may
        look at it, a taint keeps pods away from the best node where they can go elsewhere, or it asks again.
        """
        ask, desk, uid = asked.ask, self._desk, asked.ask.uid
        if len(fits) <= FEW or desk.policy.offer is Offer.ALL or asked.prefers or not uid or uid in self._named:
            return None
        if desk.looked_at(ask, asked.labels):
            return None
        place = int(desk.order(ask, fits).argmax())
        node = desk.node(fits[place])
        if node is None or node.avoided:
            return None
        self._named[uid] = None
        if len(self._named) > MOST_NAMED:
            self._named.popitem(last=False)
        return take(fits, np.array([place]))

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
        for reason, places in self._by_reason(where.reasons):
            (never if reason in FOREVER else failed).append((places[places != nearest], short_reason(reason)))
        if where.why is not None and nearest >= 0:
            lasting = not where.why.node or Reason(int(where.reasons[nearest])) in FOREVER
            (never if lasting and never else failed).append((np.array([nearest]), where.why.sentence))
        return failed, never

    def _by_reason(self, reasons: NDArray[np.uint8]) -> Iterator[tuple[Reason, Ints]]:
        for reason in self._count(reasons):
            yield reason, np.flatnonzero(reasons == reason)

    def _count(self, reasons: NDArray[np.uint8]) -> list[Reason]:
        """Count refused nodes; the reasons that some have."""
        counts = np.bincount(reasons, minlength=1)
        counts[Reason.FITS] = 0
        found = [Reason(code) for code in np.flatnonzero(counts).tolist()]
        for reason in found:
            self._metrics.refusals.labels(reason.name.lower()).inc(int(counts[reason]))
        return found


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
