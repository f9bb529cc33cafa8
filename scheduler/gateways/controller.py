"""The leader's loop that keeps the objects of gateways, and drains what is about to leave.

Observe (pods that serve, nodes, prices), decide (`kerf.gateways`, pure, when one of these has changed), apply. It
keeps nothing that a new leader needs: everything follows from the cluster and the policy. Every minute it reads what
there is, so that what people changed or deleted is written again.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerf.catalogue import shipped
from kerf.gateways.pools import LABEL, pool_labels
from kerf.gateways.render import Rendered, Seen, render
from kerf.gateways.replicas import Fleet
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from kerf.pricing.prices import PriceList
from kerf.values.gateways import Gateway, GatewaySettings, Plan
from kerf.values.usage import TokenPrice
from kerf.wire.json import Json, at, text_at
from scheduler.gateways.apply import Applied
from scheduler.gateways.drains import Drains
from scheduler.gateways.watched import Watched, scope_of
from scheduler.metrics import GatewayMetrics
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.gateways")
LOOP = Loop("gateways", every_s=0.5, at_once=True, rest_s=0.2, longest_pause_s=10.0, expected=(KubeError,))
READ_S = 60.0
"""What people changed or deleted is seen when the objects are read again; what they change of pods, at once."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What cards cost and how fast they are, and what tokens cost."""

    cards: Callable[[], PriceList]
    tokens: Callable[[], Sequence[TokenPrice]]


class GatewayController:
    """One for each term."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        prices: Prices,
        drains: Drains,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._kube = kube
        self._prices = prices
        self._drains = drains
        self._metrics = metrics
        self._clock = clock
        self._changed = threading.Event()
        self._watched: Watched | None = None
        self._applied = Applied(kube, self._count)
        self._settings = GatewaySettings()
        """By which the last whole round wrote."""
        self._found: tuple[tuple[object, ...], Rendered] | None = None
        """What was rendered last, and from what."""
        self._written: Rendered | None = None
        """What the last round wrote; None where it did not come to its end."""
        self._said: frozenset[str] = frozenset()
        """What the last round had to leave out: said once."""
        self._read_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Keep the objects until stopped. They stay as they are without a leader."""
        run_every(replace(LOOP, failures=self._metrics.failures), self.run_once, stop, self._changed)
        self._drains.forget()
        self._leave()

    def run_once(self) -> None:
        """One round, if anything changed or is due. Raises KubeError for what could not be read or written."""
        settings = self._store.desk.policy.gateways
        if not settings.to and not self._settings.to:
            self._leave()
            return
        watched = self._follow(settings if settings.to else self._settings)
        if not watched.synced:
            self._changed.wait(0.05)
            self._changed.set()
            return
        found = self._rendered(settings, watched)
        if found is self._written and self._clock() < self._read_at + READ_S:
            return
        self._written = None
        self._read(settings)
        self._label_pods(found, settings, watched)
        self._applied.apply(found.objects)
        self._settings, self._written = settings, found
        self._drains.show(found.plan)
        self._show(found)

    # ---- inside
    def _count(self, gateway: str, action: str) -> None:
        self._metrics.writes.labels(gateway, action).inc()

    def _follow(self, settings: GatewaySettings) -> Watched:
        if self._watched is None or self._watched.scope != scope_of(settings):
            self._leave()
            self._watched = Watched(self._kube, settings, self._changed)
            self._watched.start()
        return self._watched

    def _leave(self) -> None:
        if self._watched is not None:
            self._watched.stop()
            self._watched = None

    def _read(self, settings: GatewaySettings) -> None:
        """What there is of the gateways that are written now, and of those that were until now."""
        if settings == self._settings and self._clock() < self._read_at + READ_S:
            return
        moved = settings.namespace != self._settings.namespace
        before = [gateway for gateway in self._settings.to if moved or gateway not in settings.to]
        if before:
            stale = Applied(self._kube, self._count)
            stale.read(before, self._settings)
            stale.apply(())
            self._applied = Applied(self._kube, self._count)
        self._applied.read(settings.to, settings)
        self._read_at = self._clock()

    def _rendered(self, settings: GatewaySettings, watched: Watched) -> Rendered:
        """The objects: those of the last round, unless something that they are made of has changed."""
        desk, cards, tokens = self._store.desk, self._prices.cards(), tuple(self._prices.tokens())
        made_of = (settings, desk.inventory, watched.version, cards, tokens)
        if self._found is None or self._found[0] != made_of:
            fleet = Fleet(desk.nodes(), desk.vendors, cards, shipped())
            seen = Seen(watched.pods, watched.services, fleet, tokens)
            found = render(seen, settings, labelled=True) if settings.to else Rendered((), Plan())
            self._found = (made_of, found)
        return self._found[1]

    def _label_pods(self, found: Rendered, settings: GatewaySettings, watched: Watched) -> None:
        """A pool selects by labels alone: give them to the pods that get requests, and take them from the others."""
        if Gateway.POOL not in (*settings.to, *self._settings.to):
            return
        wanted = pool_labels(found.plan) if Gateway.POOL in settings.to else {}
        for pod in watched.pods:
            has = {key for key in at(pod, "metadata", "labels") if key.startswith(f"{LABEL}/")}
            should = wanted.get(text_at(pod, "metadata", "uid"), frozenset())
            if has != should:
                self._label(pod, {**dict.fromkeys(has - should), **dict.fromkeys(should - has, "true")})

    def _label(self, pod: Json, labels: dict[str, str | None]) -> None:
        path = paths.pod(text_at(pod, "metadata", "namespace"), text_at(pod, "metadata", "name"))
        body = {"metadata": {"uid": text_at(pod, "metadata", "uid"), "labels": labels}}
        try:
            self._kube.patch(path, body)
        except NotFound:
            return  # it is gone
        self._metrics.writes.labels(Gateway.POOL.value, "labelled").inc()

    def _show(self, found: Rendered) -> None:
        self._metrics.routes.set(len(found.plan.routes))
        self._metrics.replicas.labels("routed").set(len(found.plan.routed))
        self._metrics.replicas.labels("drained").set(len(found.plan.served - found.plan.routed))
        lines = (*found.left_out, *found.plan.mixed)
        for line in lines:
            if line not in self._said:
                _LOG.warning("%s", line)
        self._said = frozenset(lines)
