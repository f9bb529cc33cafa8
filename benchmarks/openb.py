"""The production placement code behind the interface of openb replays: `Engine` drives Fleet and Engine unchanged.

A simulated GPU is a card of 1,000 MiB: one thousandth of a GPU is one MiB (`gpumem`). A tenth of that number is percent
of the cores (`gpucores`), rounded down so that memory alone decides. A whole GPU is 1,000 MiB and 100 %. `gpu_spec`
becomes a `use-gputype` selection; models are in brackets, so that no name matches inside another.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from kerf.values.ask import ContainerAsk, PodAsk, Selection
from kerf.values.device import Card
from kerf.values.grant import CardUse, Grant
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.verdict import Misfit
from scheduler.policies.workload import WHOLE, Kind, Target, kind_of
from scheduler.state import engine as placement
from scheduler.state.fleet import Fleet

CARD_MIB = 1000
Answer = tuple[int, list[int]]


class SimNode(Protocol):
    """A node of a replay."""

    @property
    def index(self) -> int:
        """Its index in the replay."""

    @property
    def name(self) -> str:
        """Its name in the trace."""

    @property
    def cpu(self) -> int:
        """Thousandths of a core."""

    @property
    def mem(self) -> int:
        """MiB."""

    @property
    def gpus(self) -> int:
        """Number of GPUs."""

    @property
    def model(self) -> str:
        """Model of its GPUs."""


class SimPod(Protocol):
    """A pod of a replay."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Its name in the trace."""

    @property
    def cpu(self) -> int:
        """Thousandths of a core."""

    @property
    def mem(self) -> int:
        """MiB."""

    @property
    def num_gpu(self) -> int:
        """Number of GPUs."""

    @property
    def gpu_milli(self) -> int:
        """Thousandths of each GPU."""

    @property
    def spec(self) -> tuple[str, ...]:
        """Models that it accepts, empty for all."""


def node_of(node: SimNode) -> Node:
    """A node of the replay as the scheduler sees it. Names sort by index, because the replay permutes the nodes."""
    cards = tuple(
        Card(f"{node.index}-{i}", i, "nvidia", f"[{node.model}]", memory_mib=CARD_MIB, slots=100)
        for i in range(node.gpus)
    )
    return Node(f"{node.index:06d}", cards, cpu_milli=node.cpu, memory_mib=node.mem)


def ask_of(pod: SimPod) -> PodAsk:
    """A pod of the replay as the scheduler sees it."""
    selection = Selection(use_types=tuple(f"[{model.lower()}]" for model in sorted(pod.spec)))
    containers: tuple[ContainerAsk, ...] = ()
    if pod.num_gpu:
        containers = (
            ContainerAsk("main", pod.num_gpu, memory_mib=pod.gpu_milli, cores=pod.gpu_milli // 10, vendor="nvidia"),
        )
    return PodAsk(
        "openb",
        pod.name,
        str(pod.seq),
        containers,
        selection if containers else Selection(),
        cpu_milli=pod.cpu,
        memory_mib=pod.mem,
    )


def target_of(workload: Iterable[tuple[SimPod, float]]) -> Target:
    """The replay's target workload."""
    kinds: dict[Kind, float] = {}
    for pod, share in workload:
        kind = kind_of(ask_of(pod))
        if kind is not None:
            kinds[kind] = kinds.get(kind, 0.0) + share
    return Target(tuple(sorted((kind, round(share * WHOLE)) for kind, share in kinds.items())))


class Engine:
    """Places pods one by one, each where the production engine scores highest."""

    policy = SchedulingPolicy()

    def reset(self, nodes: Sequence[SimNode], workload: Sequence[tuple[SimPod, float]], seed: int) -> None:
        """Start with empty nodes. `seed` is not used: nothing here is random."""
        del seed
        self.fleet = Fleet()
        self.engine = placement.Engine(self.fleet, self.policy, check_node=True)
        self.engine.set_target(target_of(workload))
        for node in nodes:
            self.fleet.put_node(node_of(node))
        self.names = [node_of(node).name for node in nodes]
        self.rows = self.fleet.rows(self.names)
        self.asks: dict[object, PodAsk] = {}

    def place(self, pod: SimPod) -> Answer | None:
        """The node and GPUs of a pod, None if it fits nowhere."""
        ask = self._ask(pod)
        scores = self.engine.scores(ask, self.rows)
        best = int(scores.argmax())
        if scores[best] <= placement.NOWHERE:
            return None
        grant = self.engine.place(ask, self.names[best])
        if isinstance(grant, Misfit):
            raise AssertionError((ask, self.names[best], grant))
        return best, self._charge(pod, best, grant)

    def release(self, pod: SimPod, node: int, gpus: Sequence[int]) -> None:
        """Undo a placement."""
        self.fleet.release(self.names[node], uses_of(pod, node, gpus), pod.cpu, pod.mem)

    def place_batch(self, pods: Sequence[SimPod]) -> list[Answer | None]:
        """Place several pods in the order of arrival."""
        return [self.place(pod) for pod in pods]

    def _charge(self, pod: SimPod, node: int, grant: Grant) -> list[int]:
        gpus = [int(s.card.partition("-")[2]) for container in grant.containers for s in container.slices]
        self.fleet.charge(self.names[node], uses_of(pod, node, gpus), pod.cpu, pod.mem, vendor="nvidia")
        return gpus

    def _ask(self, pod: SimPod) -> PodAsk:
        key = (pod.cpu, pod.mem, pod.num_gpu, pod.gpu_milli, pod.spec)
        if key not in self.asks:
            self.asks[key] = ask_of(pod)
        return self.asks[key]


def uses_of(pod: SimPod, node: int, gpus: Sequence[int]) -> dict[str, CardUse]:
    """What a pod of the replay holds of its cards."""
    return {f"{node}-{gpu}": CardUse(pod.gpu_milli, pod.gpu_milli // 10, 1) for gpu in gpus}
