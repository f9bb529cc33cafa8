"""Bind, the only verb with effects: assume under the lock, post the Binding with the grant, confirm or undo.

One API write binds the pod and records its grant. A refusal by the API server is undone at once. An answer that got
lost is asked for again, and until the API server's word is known the grant stays charged: at worst capacity is held
for a while, never given away twice.
"""

import logging
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Busy, KubeError, NotFound, Unreachable
from kerf.model.ask import PodAsk
from kerf.model.grant import Grant
from kerf.model.verdict import Misfit
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.errors import WireError
from kerf.wire.extender import BindQuery
from kerf.wire.resources import parse_pod, stages_of
from scheduler.cache.pending import Stages
from scheduler.cache.store import Store
from scheduler.core.explain import explain_misfit
from scheduler.metrics import SchedulerMetrics

_LOG = logging.getLogger("kerf.bind")


class Binder:
    """Binds pods. Safe from several threads."""

    def __init__(self, store: Store, kube: Kube, metrics: SchedulerMetrics) -> None:
        self._store = store
        self._kube = kube
        self._metrics = metrics

    def bind(self, query: BindQuery) -> str:
        """Bind one pod; the empty text, or one sentence that says why not."""
        try:
            ask, stages = self._ask(query)
        except WireError as error:
            return self._outcome("invalid", str(error))
        except KubeError as error:
            return self._outcome("gone" if isinstance(error, NotFound) else "unreachable", str(error))
        grant = self._store.assume(ask, query.node, stages)
        if isinstance(grant, Misfit):
            return self._outcome("conflict", f"node {query.node} filled up meanwhile: {explain_misfit(grant)}")
        return self._post(query, grant)

    def _ask(self, query: BindQuery) -> tuple[PodAsk, Stages]:
        waiting = self._store.pending.pods.get(query.uid)
        if waiting is not None and not waiting.problem:
            return waiting.ask, waiting.stages
        pod = self._kube.get(paths.pod(query.namespace, query.name))
        if pod["metadata"].get("uid") != query.uid:
            raise NotFound(404, "NotFound", f"pod {query.namespace}/{query.name} was replaced by another of its name")
        names = tuple(vendor.names for vendor in self._store.vendors)
        return parse_pod(pod, names, self._store.policy.defaults), stages_of(pod["spec"])

    def _post(self, query: BindQuery, grant: Grant) -> str:
        try:
            self._kube.create(paths.binding(query.namespace, query.name), _binding(query, grant))
        except (Unreachable, Busy) as error:
            return self._ask_again(query, grant, error)
        except KubeError as error:
            return self._ask_again(query, grant, error) if error.status == 409 else self._undo(query, error)
        return self._outcome("bound", "")

    def _ask_again(self, query: BindQuery, grant: Grant, error: KubeError) -> str:
        """The pod may be bound or not: read it."""
        try:
            pod = self._kube.get(paths.pod(query.namespace, query.name))
        except NotFound:
            return self._undo(query, error)
        except KubeError:
            # Still charged; `loops.expire` asks until the API server answers.
            return self._outcome("unknown", f"the API server did not answer: {error}")
        if _is_ours(pod, query, grant):
            return self._outcome("bound", "")
        return self._undo(query, error)

    def _undo(self, query: BindQuery, error: KubeError) -> str:
        self._store.undo(query.uid)
        return self._outcome("refused", f"the API server refused the binding: {error}")

    def _outcome(self, outcome: str, message: str) -> str:
        self._metrics.binds.labels(outcome).inc()
        if message:
            _LOG.warning("bind %s: %s", outcome, message)
        return message


def _binding(query: BindQuery, grant: Grant) -> dict[str, Any]:
    notes = {GRANT: render_grant(grant)} if grant else {}
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": query.name, "namespace": query.namespace, "uid": query.uid, "annotations": notes},
        "target": {"apiVersion": "v1", "kind": "Node", "name": query.node},
    }


def _is_ours(pod: dict[str, Any], query: BindQuery, grant: Grant) -> bool:
    meta, spec = pod["metadata"], pod["spec"]
    text = (meta.get("annotations") or {}).get(GRANT)
    same = meta.get("uid") == query.uid and spec.get("nodeName") == query.node
    return same and (text == render_grant(grant) or not grant)
