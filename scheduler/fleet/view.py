"""What the manager sees of one cluster, as frozen values: the input of every decision over several clusters."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kerf.values.fleet import ClusterRecord, ClusterSpec, Phase
from kerf.values.grant import Slice
from kerf.values.node import Node
from scheduler.core.state import NodeState
from scheduler.fleet.neighbours import Neighbour


@dataclass(frozen=True, slots=True)
class FleetPod:
    """A pod that the manager's hand-over made, and the slices that it holds."""

    workload: str
    epoch: int
    model: str
    namespace: str
    name: str
    uid: str
    bound: bool = False
    ready: bool = False
    leaving: bool = False
    slices: tuple[Slice, ...] = ()
    node: str = ""
    """Where it is bound."""

    @property
    def cards(self) -> tuple[str, ...]:
        """The ids of the cards of its slices, one for each."""
        return tuple(each.card for each in self.slices)


@dataclass(frozen=True, slots=True)
class View:
    """A cluster as last seen."""

    spec: ClusterSpec
    record: ClusterRecord = ClusterRecord(phase=Phase.LIVE)  # noqa: RUF009 (frozen)
    nodes: tuple[Node, ...] = ()
    states: tuple[NodeState, ...] = ()
    pods: tuple[FleetPod, ...] = ()
    takes_work: bool = True
    reliability: float = 1.0
    lacks: tuple[str, ...] = ()
    """What the manager's credential may not do there."""
    knows_claims: bool = True
    """Whether what claims hold there can be read. Where not, cards that are given to claims take nothing."""
    neighbours: Mapping[Neighbour, frozenset[str]] = field(default_factory=dict)
    """The nodes of all pods that are there, the fleet's and others."""

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.spec.name

    def units(self, workload: str, size: int) -> dict[tuple[str, int], tuple[int, int, int]]:
        """Of a workload, by model and epoch: whole units that there are, that are bound, and that are ready."""
        found: dict[tuple[str, int], list[int]] = {}
        for pod in self.pods:
            if pod.workload == workload and not pod.leaving:
                counts = found.setdefault((pod.model, pod.epoch), [0, 0, 0])
                counts[0] += 1
                counts[1] += pod.bound
                counts[2] += pod.ready
        return {key: (c[0] // size, c[1] // size, c[2] // size) for key, c in found.items()}
