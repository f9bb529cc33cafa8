"""The loop that keeps each card in the mode that its pool asks for, and says what is in the way."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deviceplugin.core.modes import CardMode, Decision, Seen, Wish, decide
from deviceplugin.gate.start import StartGate
from deviceplugin.inventory.reader import CardReader
from deviceplugin.state.files import Files
from deviceplugin.state.node import LocalNode
from kerf.kube.errors import KubeError
from kerf.obs.loop import Loop, run_every
from kerf.values.device import Backend
from kerf.values.mps import MpsReport, Wanted
from kerf.wire.errors import WireError
from kerf.wire.mps import parse_report, parse_wanted, render_wanted

_LOG = logging.getLogger("kerf.deviceplugin.modes")
LOOK_S = 1.0
LONGEST_PAUSE_S = 16.0
"""Between two lists of the pods while some of them are in the way; the first pause is that of a look."""
SILENT_S = 10
"""A report that is older says nothing."""
NO_SUPERVISOR = "no supervisor of MPS daemons answers on this node (DaemonSet kerf-mps)"


@dataclass(frozen=True, slots=True)
class Floor:
    """What keeps slices where neither a daemon nor a driver does, and why a card's driver keeps no limits here."""

    backend: Backend = Backend.PRELOAD
    failed: Callable[[str], str] = lambda _: ""


class CardModes:
    """Modes of the cards of `readers`. A restarted plugin goes on from what it had asked for."""

    def __init__(
        self,
        readers: Sequence[CardReader],
        node: LocalNode,
        files: Files,
        gate: StartGate,
        floor: Floor,
    ) -> None:
        self._readers = tuple(readers)
        self._node = node
        self._files = files
        self._gate = gate
        self._floor = floor
        self._pause = 0.0
        self._asks_at = float("-inf")
        self._wished = Wish()

    def restore(self) -> None:
        """Cards that pods share through MPS are in that mode before the first look."""
        wanted = self._wanted()
        joint = {each.name: each.cards != (each.name,) for each in wanted.daemons}
        self._node.change_modes(
            {card: CardMode(name, Backend.MPS, joint.get(name, True)) for card, name in wanted.shared}
        )

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`; never raises."""
        loop = Loop("deviceplugin.modes", LOOK_S, at_once=True, expected=(KubeError, OSError))
        run_every(loop, self.run_once, stop)

    def run_once(self) -> None:
        """Decide, and change what may be changed now. Raises KubeError and OSError."""
        if not self._node.labels_known:
            return  # the pool is not known
        decision, wish = self._decide(None), self._wish()
        if not decision.asks or wish != self._wished:
            self._pause, self._asks_at, self._wished = 0.0, float("-inf"), wish
        if not decision.asks or time.monotonic() < self._asks_at:
            self._apply(decision)
            return
        self._gate.while_held(lambda held: self._apply(self._decide(held)))
        if self._decide(None).asks:  # pods are in the way: ask for them less and less often
            self._pause = min(self._pause * 2 or LOOK_S, LONGEST_PAUSE_S)
            self._asks_at = time.monotonic() + self._pause

    def servers(self) -> frozenset[int]:
        """PIDs of MPS servers, whose memory no container holds."""
        return self._report().servers

    # ---- inside
    def _wish(self) -> Wish:
        pool, backend = self._gate.policy().pool_of(self._node.as_node()), self._floor.backend
        return Wish(pool.mode, pool.mps_daemon, backend, pool.driver_limits) if pool else Wish(backend=backend)

    def _decide(self, held: frozenset[str] | None) -> Decision:
        cards = [card for reader in self._readers for card in reader.mps_cards()]
        seen = Seen(self._report(), self._node.modes, held, int(time.time()), self._floor.failed)
        return decide(cards, self._wish(), seen, self._wanted().daemons)

    def _apply(self, decision: Decision) -> None:
        """The file first: a plugin that is killed here finds the card in the mode in which containers started."""
        shared = tuple(sorted((card, mode.daemon) for card, mode in decision.modes.items() if mode.daemon))
        if decision.daemons or self._wanted() != Wanted():
            self._files.write_mps_wanted(render_wanted(Wanted(decision.daemons, shared)))
        if decision.modes != self._node.modes:
            for card, mode in sorted(decision.modes.items()):
                if mode.backend is not self._node.modes.get(card, CardMode(backend=Backend.UNSAID)).backend:
                    _LOG.info(
                        "card %s: its slices are kept by %s%s", card, mode.backend, f" ({mode.note})" * bool(mode.note)
                    )
            self._node.change_modes(decision.modes)
            for reader in self._readers:
                reader.show_again()

    def _wanted(self) -> Wanted:
        text = self._files.mps_wanted()
        try:
            return parse_wanted(text) if text else Wanted()
        except WireError as error:
            _LOG.warning("what was wanted of MPS daemons cannot be read: %s", error)
            return Wanted()

    def _report(self) -> MpsReport:
        text = self._files.mps_report()
        try:
            report = parse_report(text) if text else MpsReport(problem=NO_SUPERVISOR)
        except WireError as error:
            return MpsReport(problem=f"what its supervisor reports cannot be read: {error}")
        return report if report.problem or time.time() - report.at < SILENT_S else MpsReport(problem=NO_SUPERVISOR)
