"""Keeping this node's cards equal to the hardware."""

import logging
import threading
from collections.abc import Callable, Mapping

from deviceplugin.inventory.intake import FaultIntake
from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.probes.base import Probe
from kerf.probes.recovery import Sign
from kerf.values.device import Card, Mode
from kerf.values.health import Health
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
        self._intake: FaultIntake | None = None
        self._lock = threading.Lock()

    def connect(self, intake: FaultIntake) -> None:
        """Take the hardware's faults to the intake, and get the signs of all faults of these cards from it."""
        self._intake = intake
        for vendor in self._vendors:
            intake.add_reader(vendor.name, self.take)

    def run_once(self) -> None:
        """Read the cards once."""
        cards = self._probe.cards()
        errors = self._probe.errors
        self._metrics.probe_errors.inc(errors - self._errors)
        self._errors = errors
        self._show(cards)
        self._pass_faults()

    def run(self, stop: threading.Event) -> None:
        """Read until `stop`. What the hardware reports counts before the next reading, which may hang."""
        while not stop.is_set():
            self.run_once()
            self._probe.wait_change(PROBE_S)
            self._pass_faults()

    def take(self, card: str, sign: Sign) -> None:
        """A card has a fault: its health changes at once, whatever the hardware answers later."""
        self._probe.report(card, sign)
        self._show(self._probe.known())

    def mps_cards(self) -> tuple[Card, ...]:
        """Cards of vendors that know MPS, as the hardware has them, whatever mode they are in."""
        able = {vendor.name for vendor in self._vendors if Mode.MPS in dict(vendor.words.mode_words).values()}
        return tuple(card for card in self._probe.known() if card.vendor in able)

    def show_again(self) -> None:
        """The cards' modes have changed."""
        self._show(self._probe.known())

    def restore(self, healths: Mapping[str, Health]) -> None:
        """Go on from what an earlier run knew of the cards."""
        self._probe.restore(healths)
        self._show(self._probe.known())

    # ---- inside
    def _pass_faults(self) -> None:
        for fault in self._probe.faults():
            if self._intake is not None:
                self._intake.take(fault)

    def _show(self, found: tuple[Card, ...]) -> None:
        served = {vendor.name for vendor in self._vendors}
        with self._lock:
            shared = (self._node.as_shared(card) for card in found if card.vendor in served)
            cards = with_slicing(shared, self._vendors)
            for card in cards:
                self._metrics.card_healthy.labels(card.id, card.model).set(int(card.healthy))
            sentences = self._node.update_cards(cards, self._name)
            for sentence in sentences:
                _LOG.log(logging.INFO if self._first else logging.WARNING, "%s", sentence)
                if not self._first:
                    self._report(sentence)
            self._first = self._first and not cards
