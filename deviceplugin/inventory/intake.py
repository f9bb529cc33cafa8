"""The one place at which faults arrive, from the hardware, the kernel log and inference servers.

It decides what a fault means, by the vendor's table and the policy, counts it, reports it once a minute, and passes
what concerns the card on to the card's reader.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from deviceplugin.core.fault_windows import FaultWindows
from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.probes.recovery import Sign
from kerf.values.device import Card, Mode
from kerf.values.fault import Fault, Signal, Verdict
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor

_LOG = logging.getLogger("kerf.deviceplugin.faults")
_LONGEST_CAUSE = 200
Pass = Callable[[str, Sign], None]
"""Gets a card's id and the sign of its fault."""
Hurts = Callable[[str, Fault, str], bool]
"""Gets a card's id, a fault for which the pod of the MIG instance that it names has to move, and its cause."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Where faults are reported: about the node, the pod of a process, if it is one's, and the pods of a card."""

    node: Callable[[str], None]
    process: Callable[[int, str], None]
    card: Callable[[str, str], None]
    """About every pod that holds a slice of a card."""


class FaultIntake:
    """Safe from several threads."""

    def __init__(
        self,
        node: LocalNode,
        vendors: tuple[Vendor, ...],
        policy: Callable[[], SchedulingPolicy],
        metrics: PluginMetrics,
        reports: Reports,
    ) -> None:
        self._node = node
        self._vendors = {vendor.name: vendor for vendor in vendors}
        self._policy = policy
        self._metrics = metrics
        self._reports = reports
        self._lock = threading.Lock()
        self._windows = FaultWindows()
        self._readers: dict[str, Pass] = {}
        self._hurt: Hurts = _of_none

    def add_instances(self, hurt: Hurts) -> None:
        """What notes faults of single MIG instances."""
        self._hurt = hurt

    def add_reader(self, vendor: str, take: Pass) -> None:
        """The reader of a vendor's cards gets the signs of their faults."""
        self._readers[vendor] = take

    def take(self, fault: Fault) -> None:
        """One sighting of a fault. Its card is an id or an address on the bus."""
        card = next((card for card in self._node.cards if fault.card and fault.card in {card.id, card.bus}), None)
        vendor = self._vendors.get(card.vendor) if card else None
        if card is None or vendor is None:
            _LOG.warning("a fault of card %s, which is not served here: %s", fault.card or "?", fault.text)
            return
        verdict = vendor.faults.verdict(fault, self._policy().recovery.verdicts)
        cause = cause_of(fault, vendor)
        with self._lock:
            opens = self._windows.opens(replace(fault, card=card.id), verdict)
        if opens:
            self._report(card, fault, cause, verdict)
        if vendor.faults.of_one_instance(fault):
            worst = vendor.faults.tenant_verdict(fault, self._policy().recovery.verdicts)
            if worst is Verdict.EVICT and self._hurt(card.id, fault, cause):
                _LOG.warning("the pod of MIG instance %s of card %s has to move: %s", fault.instance, card.id, cause)
        if verdict.rank >= Verdict.SUSPECT.rank:
            away = fault.signal is Signal.LOST
            sign = Sign(verdict, cause, int(fault.at), fault.code, vendor.faults.remedy(fault), away)
            self._readers[vendor.name](card.id, sign)

    def _report(self, card: Card, fault: Fault, cause: str, verdict: Verdict) -> None:
        self._metrics.faults.labels(card.id, str(fault.code), verdict.value).inc()
        where = f"card {card.id}" + (f", MIG instance {fault.instance}" if fault.instance else "")
        level = logging.INFO if verdict is Verdict.IGNORE else logging.WARNING
        _LOG.log(level, "%s reported %s (%s): %s", where, cause, verdict.value, fault.text)
        if verdict is Verdict.IGNORE:
            return
        if verdict.rank <= Verdict.SUSPECT.rank:  # a worse one changes the card's state, which is reported then
            self._reports.node(f"{where} reported {cause}")
        if card.mode is Mode.MPS:  # one program's fatal fault ends all of them
            shared = f"{where}, of which this pod holds a slice through MPS, reported {cause}"
            self._reports.card(card.id, f"{shared}: every program on the card may have ended with an error")
        elif fault.pid:
            self._reports.process(fault.pid, f"{where}, of which this pod holds a slice, reported {cause}")


def _of_none(_card: str, _fault: Fault, _cause: str) -> bool:
    return False


def cause_of(fault: Fault, vendor: Vendor) -> str:
    """The fault in a few words: what its source says where there is no code, else the code with its name."""
    if fault.signal in {Signal.LOST, Signal.SERVER} or not fault.code:
        return fault.text[:_LONGEST_CAUSE]
    return vendor.faults.describe(fault)
