"""The page from the scheduler's parts."""

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kerf.http.address import parse_bind
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.kube.leadership import Tenure
from kerf.kube.lease import Claim
from kerf.obs.loop import Loop, run_every
from kerf.pricing.prices import PriceList
from kerf.wire.fleet import CLUSTERS
from scheduler.page.collect import Collector, Sources
from scheduler.page.history import History
from scheduler.page.hub import Hub
from scheduler.page.keys import Lonely, PageKeys
from scheduler.page.listener import Page, Parts
from scheduler.page.people import People
from scheduler.page.pulse import Pulse
from scheduler.page.relay import Address, Relay
from scheduler.page.what_if import Terms, WhatIf
from scheduler.state.store import Store

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
FLEET = Loop("page-fleet", every_s=10.0, at_once=True, longest_pause_s=60.0, expected=(KubeError,))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page listens, and which Secret its replicas share (`namespace`; None: a key of its own)."""

    bind: str
    tls: ssl.SSLContext | None = None
    peer_tls: ssl.SSLContext | None = None
    namespace: str | None = None
    fleet: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page asks of the scheduler's other parts."""

    seat: Tenure
    leader: Callable[[], Claim | None]
    prices: Callable[[], PriceList]
    tenants: Callable[[], Mapping[str, str]]
    terms: Terms


class RunningPage:
    """The page and the threads beside it."""

    def __init__(self, place: Place, store: Store, kube: Kube, asked: Asked) -> None:
        self._stop = threading.Event()
        self._clusters = _Clusters(kube)
        address = parse_bind(place.bind)
        keys = PageKeys(kube, place.namespace, _leads(asked.seat)) if place.namespace else Lonely()
        self._threads = [threading.Thread(target=keys.run, args=(self._stop,), name="page-key", daemon=True)]
        if place.fleet:
            run = self._clusters.run
            self._threads.append(threading.Thread(target=run, args=(self._stop,), name="page-fleet", daemon=True))
        pulse = Pulse(kube, lambda: self._page.watched)
        self._threads.append(threading.Thread(target=pulse.run, args=(self._stop,), name="page-pulse", daemon=True))
        history = History()
        sources = Sources(
            asked.prices, asked.tenants, lambda: self._clusters.items, _leads(asked.seat), lambda: pulse.lost
        )
        self._page = Page(
            address,
            place.tls,
            Parts(
                people=People(kube),
                keys=keys,
                relay=Relay(lambda: _leader_page(address, asked), place.peer_tls if place.tls else None),
                make_hub=lambda access_of: Hub(Collector(store, sources), history, access_of),
                history=history,
                what_if=WhatIf(store, kube, asked.terms),
            ),
        )

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._page.port

    def start(self) -> None:
        """Listen. Raises OSError."""
        self._page.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close everything."""
        self._stop.set()
        self._page.stop()


class _Clusters:
    """The fleet's clusters, as last listed."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.items: list[Json] = []

    def run(self, stop: threading.Event) -> None:
        """List now and then, until stopped."""
        run_every(FLEET, self._list, stop)

    def _list(self) -> None:
        self.items = self._kube.list(CLUSTERS)[0]


def _leads(seat: Tenure) -> Callable[[], bool]:
    return lambda: bool(seat.term())


def _leader_page(own: tuple[str, int], asked: Asked) -> Address | None:
    """The leader's page is at the leader's address and this page's port; a page on loopback cannot be reached."""
    if own[0] in LOOPBACK or asked.seat.term():
        return None
    claim = asked.leader()
    host = claim.address.rpartition(":")[0].strip("[]") if claim is not None else ""
    return (host, own[1]) if host else None
