"""Assumptions whose bind never became visible, and reservations whose time is over."""

import logging
import threading
import time

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from scheduler.state.bookings import Booking
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.expire")
ASK_AFTER_S = 5.0
"""An assumed pod that the watch has not shown after this long is read from the API server. By then a Binding whose
answer was lost has taken effect or never will (`scheduler.extender.bind.BIND_S`)."""
LOOP = Loop("expire", every_s=2.0)


class Expiry:
    """Asks the API server about old assumptions; only its answer ends one."""

    def __init__(self, store: Store, kube: Kube, ask_after_s: float = ASK_AFTER_S) -> None:
        self._desk = store.desk
        self._ledger = store.ledger
        self._feed = store.feed
        self._kube = kube
        self._ask_after_s = ask_after_s

    def run(self, stop: threading.Event) -> None:
        """Run every two seconds until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round."""
        now = time.monotonic()
        for booking in self._ledger.assumed_before(now - self._ask_after_s):
            self._ask(booking)
        for booking in self._ledger.reservations_before(now):
            _LOG.info("reservation of %s on %s is over", booking.key, booking.node)
            self._ledger.drop_reservation(booking.uid)

    def _ask(self, booking: Booking) -> None:
        """Within a bind, so that no other one of the pod begins between the answer and its effect."""
        bind = self._desk.begin_bind(booking.uid)
        if bind is None:
            return
        with bind:
            if self._ledger.get(booking.uid) == booking:
                self._settle(booking)

    def _settle(self, booking: Booking) -> None:
        namespace, _, name = booking.key.partition("/")
        try:
            pod = self._kube.get(paths.pod(namespace, name))
        except NotFound:
            self._ledger.undo(booking.uid)
            self._ledger.drop_reservation(booking.uid)
            return
        except KubeError as error:
            _LOG.warning("whether %s is bound is not known yet: %s", booking.key, error)
            return
        if pod["metadata"].get("uid") == booking.uid and pod["spec"].get("nodeName"):
            self._feed.apply_pod("MODIFIED", pod)
        else:
            self._ledger.undo(booking.uid)
