"""What those who only look may ask: which nodes have changed, why a pod waits, what is planned. Changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kerf.values.node import Node
from kerf.values.verdict import Misfit
from scheduler.core.state import NodeState
from scheduler.state.bookings import Booking, State
from scheduler.state.live import Live
from scheduler.state.pending import Waiting


@dataclass(frozen=True, slots=True)
class NodeSight:
    """A node, what is free on it, and what pods hold or have reserved there."""

    node: Node
    state: NodeState
    bookings: tuple[Booking, ...]


@dataclass(frozen=True, slots=True)
class Why:
    """Why a pod waits, in the scheduler's words, and the smallest change with which it would fit, if there is one."""

    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the last plan has for waiting pods: a node by uid. `reserved` are the places that are held."""

    nodes: Mapping[str, str]
    reserved: tuple[Booking, ...]


class Sight:
    """Safe from several threads. A hold of the lock copies references, or answers about one node or one pod."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def changed_nodes(self, since: int) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        """The version now, every node's name, and those that have changed since a version."""
        live = self._live
        with live.lock:
            fleet = live.fleet
            names = tuple(fleet.names())
            rows = fleet.rows(names)
            newer = np.nonzero(fleet.versions[rows] > since)[0] if names else ()
            return fleet.version, names, tuple(names[number] for number in newer)

    def node(self, name: str) -> NodeSight | None:
        """One node; None where it is gone."""
        live = self._live
        with live.lock:
            node = live.nodes.get(name)
            if node is None or name not in live.fleet:
                return None
            return NodeSight(node, live.fleet.state(name), tuple(live.ledger.on_node(name)))

    def waiting(self) -> list[Waiting]:
        """The pods that wait, with the sizes of their gangs."""
        live = self._live
        with live.lock:
            found = [(one, live.pending.sized(one.ask)) for one in live.pending.pods.values()]
        return [one if ask is one.ask else replace(one, ask=ask) for one, ask in found]

    def plan(self) -> Plan:
        """The plan in force."""
        live = self._live
        with live.lock:
            return Plan(dict(live.pending.planned), tuple(live.ledger.bookings(State.RESERVED)))

    def why(self, waiting: Waiting) -> Why:
        """Why a pod waits, as filter would answer, and without its effects."""
        if waiting.problem:
            return Why(waiting.problem)
        if waiting.gates:
            return Why("scheduling gates hold it back")
        live, ask = self._live, waiting.ask
        with live.lock:
            if live.policy.planner.enabled:
                note, _ = live.pending.gang_words(ask, lambda: live.ledger.members_of(ask.gang))
                if note:
                    return Why(note)
            offered = live.pending.offered(ask.uid)
            found = live.within.fits(ask, sorted(live.nodes) if offered is None else sorted(offered))
        if isinstance(found, Misfit):
            return Why(found.detail)
        if found.why is None:
            return Why("a place fits; kube-scheduler has not bound it yet")
        return Why(found.why.sentence, found.why.fix)
