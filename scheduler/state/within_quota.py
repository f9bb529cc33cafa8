"""Every question about places, asked within quota. The only module that narrows an ask and the only door to the engine.

The caller holds the lock.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant, card_uses
from kerf.values.verdict import FOREVER, Misfit, Reason
from scheduler.core.columns import Bools, Ints
from scheduler.core.eligible import NOT_ELIGIBLE
from scheduler.core.explain import explain_misfit
from scheduler.core.node_list import take
from scheduler.core.place import node_misfit
from scheduler.core.state import NodeState
from scheduler.state.answers import ByCards, NoPlace, Promised
from scheduler.state.engine import Engine
from scheduler.state.planned_places import PlannedPlaces
from scheduler.state.quotas import QuotaLedger

_PLANNED_TRIES = 16
"""Places of a fleet's plan that are tried for one pod: one that was free a moment ago mostly still is."""
_PLANNED_NODES = 64
"""Nodes of a fleet's plan that are tried for one pod whose preferences choose among them."""
_TRIES = 64
"""Nodes that are tried beyond as many as may be full of promises."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Per asked node, whether the pod fits, and its place in a total order, best highest."""

    fits: Bools
    scores: Ints


@dataclass(frozen=True, slots=True)
class _Candidates:
    """A narrowed ask, and the positions of the nodes that have room for it."""

    ask: PodAsk
    best_first: list[int]


class WithinQuota:
    """The engine's answers for what quota leaves to a pod."""

    def __init__(self, engine: Engine, quotas: QuotaLedger, planned: PlannedPlaces) -> None:
        self._engine = engine
        self._planned = planned
        self._fleet = engine.fleet
        self._quotas = quotas

    def narrow(self, ask: PodAsk) -> PodAsk | Misfit:
        """The ask, its types among the models of the fleet and confined to the classes in which its tenant has room.

        Otherwise why there is none.
        """
        selection = ask.selection.among(self._fleet.models)
        return self._quotas.narrow(ask if selection is ask.selection else replace(ask, selection=selection))

    def guaranteed(self, ask: PodAsk) -> PodAsk | Misfit:
        """The ask, confined to the classes of which its tenant is guaranteed so much more."""
        return self._quotas.narrow(ask, guaranteed=True)

    def fits(self, ask: PodAsk, names: Sequence[str]) -> ByCards | Misfit:
        """On which of the nodes the pod fits; a misfit where quota leaves nothing."""
        narrowed = self.narrow(ask)
        if isinstance(narrowed, Misfit):
            return narrowed
        rows = self._fleet.rows(names)
        answer = self._engine.query(narrowed, rows)
        fits = take(names, np.flatnonzero(answer.feasible))
        why = self._engine.explain(narrowed, rows) if not fits and len(rows) else None
        return ByCards(fits, answer.reasons, why and replace(why, sentence=why.sentence + self._occupied(names)))

    def scores(self, ask: PodAsk, names: Sequence[str]) -> Ints:
        """A total order of the nodes, best highest. A pod that quota refuses is ordered by its whole ask."""
        narrowed = self.narrow(ask)
        return self._engine.scores(ask if isinstance(narrowed, Misfit) else narrowed, self._fleet.rows(names))

    def ranks(self, ask: PodAsk, names: Sequence[str]) -> Ranks | Misfit:
        """Where the pod fits, and a total order of these nodes; a misfit where quota leaves nothing."""
        narrowed = self.narrow(ask)
        if isinstance(narrowed, Misfit):
            return narrowed
        rows = self._fleet.rows(names)
        return Ranks(self._engine.query(narrowed, rows).feasible, self._engine.scores(narrowed, rows))

    def has_room(self, ask: PodAsk, names: Sequence[str]) -> bool:
        """Whether the pod fits on one of the nodes with its CPU, its memory and the nodes' cordons."""
        narrowed = self.narrow(ask)
        return not isinstance(narrowed, Misfit) and bool(self._room(narrowed, self._fleet.rows(names)).any())

    def place(self, ask: PodAsk, node: str, stages: Stages) -> Grant | Misfit:
        """The grant that the pod would get on the node: what its fleet's plan has for it there, if that is free."""
        narrowed = self.narrow(ask)
        if isinstance(narrowed, Misfit):
            return narrowed
        if ask.part and (found := self.planned(ask, (node,), stages)) is not None:
            return found[1]
        grant = self._engine.place(narrowed, node)
        if isinstance(grant, Misfit):
            return grant
        return self._quotas.refuses(ask, node, grant, stages) or grant

    def planned(self, ask: PodAsk, names: Collection[str], stages: Stages) -> tuple[str, Grant] | None:
        """A place on one of the nodes that the fleet's plan has for the pod and that is free; None where there is none.

        A pod that names its cards itself goes by these.
        """
        if not ask.part or ask.selection.use_ids:
            return None
        offered = (place for place in self._planned.open(ask.part) if place.node in names)
        for place in islice(offered, _PLANNED_TRIES):
            pinned = replace(ask, selection=replace(ask.selection, use_ids=place.cards))
            found = self.place_on(pinned, self._fleet.state(place.node), stages)
            if isinstance(found, Grant):
                return place.node, found
        return None

    def planned_first(self, ask: PodAsk, names: Collection[str], stages: Stages) -> tuple[str, Grant] | None:
        """The same, unless the pod prefers nodes by itself: then its preferences choose the node."""
        return self.planned(ask, names, stages) if self._planned.come_first(ask.part) else None

    def preferred(self, ask: PodAsk, names: Sequence[str], scores: Ints) -> Ints:
        """The order with the nodes of the plan's places first, where these come after what the pod prefers."""
        if not len(scores) or not ask.part or self._planned.come_first(ask.part):
            return scores
        stages = tuple((each.name, each.stage) for each in ask.containers)
        listed = dict.fromkeys(place.node for place in self._planned.open(ask.part))
        found = {name for name in islice(listed, _PLANNED_NODES) if self.planned(ask, (name,), stages) is not None}
        first = np.fromiter((name in found for name in names), bool, len(names))
        above: Ints = scores + first * (scores.max() - scores.min() + 1)
        return above

    def place_on(self, ask: PodAsk, state: NodeState, stages: Stages) -> Grant | Misfit:
        """The grant on a node as it might be, by the card policies alone."""
        narrowed = self.narrow(ask)
        if isinstance(narrowed, Misfit):
            return narrowed
        grant = self._engine.place_on(narrowed, state)
        if isinstance(grant, Misfit):
            return grant
        return self._quotas.refuses(ask, state.name, grant, stages) or grant

    def could_hold(self, ask: PodAsk, state: NodeState) -> bool:
        """Whether quota leaves something to the pod and a node as it might be has the cards for that."""
        narrowed = self.narrow(ask)
        return not isinstance(narrowed, Misfit) and isinstance(self._engine.place_on(narrowed, state), Grant)

    def by_cards_alone(self, ask: PodAsk, state: NodeState) -> Grant | Misfit:
        """The grant on a node as it might be, by the card policies alone.

        The caller has narrowed the ask, or counts quota itself. Reads no live state, so it needs no lock.
        """
        return self._engine.place_on(ask, state)

    def best(self, ask: PodAsk, names: Sequence[str], stages: Stages) -> tuple[str, Grant] | NoPlace:
        """The best of the nodes and the grant there."""
        candidates = self._candidates(ask, names)
        if isinstance(candidates, NoPlace):
            return candidates
        misfit = Misfit(Reason.MEMORY)
        for position in candidates.best_first:
            found = self.place(ask, names[position], stages)
            if isinstance(found, Grant):
                return names[position], found
            misfit = found
        return NoPlace(explain_misfit(misfit))

    def beside(
        self, ask: PodAsk, names: Sequence[str], stages: Stages, promised: Sequence[Promised]
    ) -> tuple[str, Grant] | NoPlace:
        """The best of the nodes for a pod that is not there yet, and the grant there, beside what others were promised.

        Nothing is charged and nothing is remembered of the question.
        """
        candidates = self._candidates(ask, names)
        if isinstance(candidates, NoPlace):
            return candidates
        taken = [(each.holding, each.ask.traits) for each in promised]
        misfit = Misfit(Reason.MEMORY)
        for position in candidates.best_first[: len(promised) + _TRIES]:
            state = _after(self._fleet.state(names[position]), promised)
            found = node_misfit(ask, state) or self._engine.place_on(candidates.ask, state)
            if isinstance(found, Grant):
                refused = self._quotas.refuses(ask, state.name, found, stages, taken)
                if refused is None:
                    return state.name, found
                found = refused
            misfit = found
        beside = ", beside what other new pods were promised" if promised else ""
        return NoPlace(f"{explain_misfit(misfit)}{beside}")

    # ---- inside
    def _candidates(self, ask: PodAsk, names: Sequence[str]) -> _Candidates | NoPlace:
        if not names:
            return NoPlace(NOT_ELIGIBLE)
        narrowed = self.narrow(ask)
        if isinstance(narrowed, Misfit):
            return NoPlace(narrowed.detail)
        rows = self._fleet.rows(names)
        good = np.flatnonzero(self._room(narrowed, rows))
        if not len(good):
            return self._why_not(narrowed, rows)
        best_first = good[np.argsort(self._engine.scores(narrowed, rows)[good], kind="stable")[::-1]]
        return _Candidates(narrowed, best_first.tolist())

    def _occupied(self, names: Sequence[str]) -> str:
        """Which of the nodes are not offered because pods hold their cards without a grant."""
        taken = [name for name in self._fleet.occupied_nodes() if name in names]
        if not taken:
            return ""
        name = taken[0]
        pod, cards = next(iter(self._fleet.occupied(name).items()))
        more = f" (and {len(taken) - 1} more nodes)" if len(taken) > 1 else ""
        return f"; {name}{more} is not offered: pod {pod} holds {cards} of its cards without a grant of Kerf's"

    def _room(self, narrowed: PodAsk, rows: Ints) -> Bools:
        return self._engine.room(narrowed, rows)

    def _why_not(self, narrowed: PodAsk, rows: Ints) -> NoPlace:
        answer = self._engine.query(narrowed, rows)
        if answer.feasible.any():
            return NoPlace(f"needs {narrowed.cpu_milli:,}m CPU and {narrowed.memory_mib:,} MiB beside its cards")
        final = {Reason(code) for code in np.unique(answer.reasons).tolist()} <= FOREVER
        return NoPlace(self._engine.explain(narrowed, rows).sentence, final)


def _after(state: NodeState, promised: Sequence[Promised]) -> NodeState:
    """The node as it is once every promised place on it is taken."""
    for each in promised:
        if each.holding.node == state.name:
            state = replace(
                state.holding(card_uses(each.holding.grant, each.holding.stages)),
                free_cpu_milli=state.free_cpu_milli - each.ask.cpu_milli,
                free_memory_mib=state.free_memory_mib - each.ask.memory_mib,
            )
    return state
