"""Bind, the only verb with effects: assume under the lock, post the Binding with the grant, confirm or undo.

One API write binds the pod, records its grant and says what the vendors' own device plugins read. Some of those serve
the pod that a lock on the node names; for their cards that lock is one more write before it. A refusal by the API
server is undone at once. If the answer is lost, the pod is read again, and the grant stays charged until the API server
confirms or rejects it: at worst capacity is held for a while, never given away twice.

Only the leader binds. A bind belongs to the term in which it assumed: its Binding takes effect within `BIND_S` of a
moment at which the term surely lasts that long, or never (`kerf.kube.fenced`), so the next leader can know all of it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Busy, KubeError, NotFound, Unreachable, Unsent, Withheld
from kerf.kube.leadership import ALONE, Tenure
from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.vendor import Placement, plugin_locks, plugin_notes
from kerf.values.verdict import Misfit
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.errors import WireError
from kerf.wire.extender import BindQuery
from kerf.wire.json import at
from scheduler.core.explain import explain_misfit
from scheduler.extender.door import Door
from scheduler.extender.node_locks import TAKEN, NodeLocks
from scheduler.metrics import SchedulerMetrics
from scheduler.state.binding import Assumption, Bind
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.bind")
BIND_S = 1.0
"""The API server gives a Binding up after this long."""
DRIFT = 1.1
"""How much slower than ours the API server's clock may run."""
REFUSED = "refused"
"""The outcome of a Binding to which the API server said no."""
NOT_LEADING = "this replica does not lead, or not yet: try again"


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a bind: the word by which it is counted, and one sentence that says why not, empty where bound."""

    outcome: str
    sentence: str


class Binder:
    """Binds pods while this replica leads, any number at the same time on one event loop."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        metrics: SchedulerMetrics,
        tenure: Tenure = ALONE,
    ) -> None:
        self._store = store
        self._kube = kube
        self._metrics = metrics
        self._tenure = tenure
        self._locks = NodeLocks(kube)
        self.door = Door()
        """Where kube-scheduler waits while the express lane binds."""

    def leads(self) -> bool:
        """Whether this replica binds at this moment."""
        return bool(self._tenure.term())

    async def bind(self, query: BindQuery) -> str:
        """Bind one pod; the empty text, or one sentence that says why not."""
        term = self._tenure.term()
        if not term:
            return self._outcome("not leading", NOT_LEADING).sentence
        bind = self._store.desk.begin_bind(query.uid)
        if bind is None:
            await self.door.settle(query.uid)
            bind = self._store.desk.begin_bind(query.uid)
        if bind is None:
            return self._outcome("under way", f"pod {query.namespace}/{query.name} is being bound; try again").sentence
        with bind:
            return (await self._bind(query, bind, term)).sentence

    async def _bind(self, query: BindQuery, bind: Bind, term: int) -> Said:
        try:
            ask, stages = await self._ask(query, bind)
        except WireError as error:
            return self._outcome("invalid", str(error))
        except KubeError as error:
            return self._outcome("gone" if isinstance(error, NotFound) else "unreachable", str(error))
        if not self.door.take_room(query.uid, query.node):
            return self._outcome("conflict", f"node {query.node} filled up meanwhile: its CPU, memory or pods")
        assumption = bind.assume(ask, query.node, stages)
        if isinstance(assumption, Misfit):
            self.door.give_room_back(query.uid)
            return self._outcome("conflict", f"node {query.node} filled up meanwhile: {explain_misfit(assumption)}")
        said = await self.post(query, assumption, (ask, stages), term)
        if said.sentence and not assumption.still_held():
            self.door.give_room_back(query.uid)
        return said

    async def post(self, query: BindQuery, assumption: Assumption, asked: tuple[PodAsk, Stages], term: int) -> Said:
        """Bind a pod that is charged, in the bind that has it."""
        placement = self._placement(query.node, assumption.grant, *asked)
        vendors = self._store.desk.vendors
        taken: dict[str, str] = {}
        for key in plugin_locks(vendors, placement):
            lock = await asyncio.to_thread(self._locks.take, key, query)
            self._metrics.node_locks.labels(TAKEN if isinstance(lock, str) else lock.outcome).inc()
            if not isinstance(lock, str):
                assumption.undo()
                await self._release(taken, query.node)
                return self._outcome("locked", lock.sentence)
            taken[key] = lock
        said = await self._post(query, (assumption, plugin_notes(vendors, placement)), term)
        if said.sentence and not assumption.still_held():
            await self._release(taken, query.node)
        return said

    def _placement(self, name: str, grant: Grant, ask: PodAsk, stages: Stages) -> Placement:
        node = self._store.desk.node(name)
        cards = {card.id: card for card in node.cards} if node else {}
        return Placement(name, grant, stages, ask.containers, cards, time.time_ns())

    async def _release(self, locks: Mapping[str, str], node: str) -> None:
        for key, lock in locks.items():
            await asyncio.to_thread(self._locks.release, key, node, lock)
            self._metrics.node_locks.labels("released").inc()

    async def _ask(self, query: BindQuery, bind: Bind) -> tuple[PodAsk, Stages]:
        if bind.known is not None:
            return bind.known.ask, bind.known.stages
        pod = await self._read(query)
        if pod["metadata"].get("uid") != query.uid:
            raise NotFound(404, "NotFound", f"pod {query.namespace}/{query.name} was replaced by another of its name")
        return self._store.desk.read(pod)

    async def _post(self, query: BindQuery, given: tuple[Assumption, Mapping[str, str]], term: int) -> Said:
        assumption, notes = given

        def holds() -> bool:
            return self._tenure.holds(term, BIND_S * DRIFT) and assumption.still_held()

        try:
            path = paths.binding(query.namespace, query.name)
            await self._kube.create_while(path, _binding(query, assumption.grant, notes), holds, BIND_S)
        except (Unsent, Withheld) as error:
            return self._undo(assumption, error)
        except (Unreachable, Busy) as error:
            return await self._ask_again(query, assumption, error)
        except KubeError as error:
            if error.status == 409:
                return await self._ask_again(query, assumption, error)
            return self._undo(assumption, error)
        return self._outcome("bound", "")

    async def _ask_again(self, query: BindQuery, assumption: Assumption, error: KubeError) -> Said:
        """The pod may be bound or not: read it."""
        try:
            pod = await self._read(query)
        except NotFound:
            return self._undo(assumption, error)
        except KubeError:
            return self._unknown(error)
        if _is_ours(pod, query, assumption.grant):
            return self._outcome("bound", "")
        if isinstance(error, (Unreachable, Busy)) and not pod["spec"].get("nodeName"):
            return self._unknown(error)  # the server may still be at it
        return self._undo(assumption, error)

    async def _read(self, query: BindQuery) -> dict[str, Any]:
        """The pod as the API server has it; rare, so a thread waits for it."""
        return await asyncio.to_thread(self._kube.get, paths.pod(query.namespace, query.name))

    def _unknown(self, error: KubeError) -> Said:
        """Still charged; `placing.expire` asks until the API server confirms or rejects it."""
        return self._outcome("unknown", f"the API server did not say whether the pod is bound: {error}")

    def _undo(self, assumption: Assumption, error: KubeError) -> Said:
        assumption.undo()
        if isinstance(error, (Unsent, Withheld)):
            return self._outcome("unsent", f"the binding was not sent: {error}")
        return self._outcome(REFUSED, f"the API server refused the binding: {error}")

    def _outcome(self, outcome: str, sentence: str) -> Said:
        self._metrics.binds.labels(outcome).inc()
        if sentence:
            _LOG.warning("bind %s: %s", outcome, sentence)
        return Said(outcome, sentence)


def _binding(query: BindQuery, grant: Grant, plugin: Mapping[str, str]) -> dict[str, Any]:
    notes = {GRANT: render_grant(grant), **plugin} if grant else {}
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": query.name, "namespace": query.namespace, "uid": query.uid, "annotations": notes},
        "target": {"apiVersion": "v1", "kind": "Node", "name": query.node},
    }


def _is_ours(pod: dict[str, Any], query: BindQuery, grant: Grant) -> bool:
    meta, spec = pod["metadata"], pod["spec"]
    text = at(meta, "annotations").get(GRANT)
    same = meta.get("uid") == query.uid and spec.get("nodeName") == query.node
    return same and (text == render_grant(grant) or not grant)
