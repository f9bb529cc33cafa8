"""What the driver is made of, built and started together."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from deviceplugin.dra.hands import HandRules, Hands
from deviceplugin.dra.prepare import Preparer
from deviceplugin.dra.servicer import DraServicer
from deviceplugin.dra.slices import SlicePublisher
from deviceplugin.dra.sockets import DraSockets, endpoint
from deviceplugin.gate.start import StartGate
from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Kube

Start = Callable[[str, Callable[[], None]], threading.Thread]


@dataclass(frozen=True, slots=True)
class Directories:
    """The kubelet's directories for drivers."""

    registry: str
    plugins: str


class DraRoom:
    """The driver of one node. Without `directories` it serves no claims, and takes cards back from DRA."""

    def __init__(
        self,
        kube: Kube,
        node: LocalNode,
        gate: StartGate,
        rules: HandRules,
        metrics: PluginMetrics,
        directories: Directories | None,
    ) -> None:
        self.hands = Hands(kube, node, gate.pods, rules)
        self._sockets: DraSockets | None = None
        self._slices: SlicePublisher | None = None
        if directories is not None:
            wake = threading.Event()
            preparer = Preparer(kube, gate, node, rules.vendor, wake.set)
            servicer = DraServicer(preparer, metrics, str(endpoint(directories.plugins)))
            self._slices = SlicePublisher(kube, node, gate, rules.policy, lambda: servicer.registered, wake)
            self._sockets = DraSockets(directories.registry, directories.plugins, servicer)

    def start(self, begin: Start, inventory_current: Callable[[], bool], stop: threading.Event) -> None:
        """Start the loops."""
        slices, sockets = self._slices, self._sockets
        begin("hands", lambda: self.hands.run(lambda: inventory_current() and self._published(), stop))
        if slices is not None and sockets is not None:
            begin("resource slices", lambda: slices.run(stop))
            begin("dra", lambda: sockets.run(stop))

    def _published(self) -> bool:
        return self._slices is None or self._slices.current()
