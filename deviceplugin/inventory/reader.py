"""Keeping this node's cards equal to the hardware."""

import logging
import threading
from collections.abc import Callable

from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.probes.base import Probe
from kerf.values.vendor import Vendor, with_slicing

_LOG = logging.getLogger("kerf.deviceplugin.reader")
PROBE_S = 5.0
"""Cards are read at least this often. A probe that notices a change itself wakes the loop at once."""


class CardReader:
    """Reads one probe's cards of `vendors`. `report` gets one sentence per card that changed."""

    def __init__(
        self,
        probe: Probe,
        vendors: tuple[Vendor, ...],
        node: LocalNode,
        metrics: PluginMetrics,
        report: Callable[[str], None],
    ) -> None:
        self._probe = probe
        self._name = vendors[0].name
        self._first = True
        self._errors = 0
        self._vendors = vendors
        self._node = node
        self._metrics = metrics
        self._report = report

    def run_once(self) -> None:
        """Read the cards once."""
        served = {vendor.name for vendor in self._vendors}
        cards = with_slicing((card for card in self._probe.cards() if card.vendor in served), self._vendors)
        errors = self._probe.errors
        self._metrics.probe_errors.inc(errors - self._errors)
        self._errors = errors
        for card in cards:
            self._metrics.card_healthy.labels(card.id, card.model).set(int(card.healthy))
        for sentence in self._node.update_cards(cards, self._name):
            _LOG.log(logging.INFO if self._first else logging.WARNING, "%s", sentence)
            if not self._first:
                self._report(sentence)
        self._first = self._first and not cards

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            self.run_once()
            self._probe.wait_change(PROBE_S)
