"""`make bench-mixed`: the scheduler's own code on a fleet of six vendors' cards, beside an NVIDIA-only fleet.

Both fleets have as many nodes, cards and classes of pods (24), and are about half full. Each turn asks both for one
answer (filter, prioritize) and one placement (assume, every second one undone); the two take turns, so that a busy
machine slows both. Every answer follows a change of one node, as in a live cluster.

The last line is one JSON object: {"nodes", "nvidia_answer_ms", "mixed_answer_ms", "answer_ratio",
"nvidia_placement_ms", "mixed_placement_ms", "placement_ratio", "choice_ms"}; times are medians. `choice_ms` is the
scheduler's answer about a new pod that accepts three kinds of cards, on the mixed fleet.
"""

import argparse
import json
import statistics
import time
from typing import Any

import orjson

from kerf.config.prices import read_prices
from kerf.obs.metrics import Metrics
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.choosing import KindQuestion
from scheduler.choosing.chooser import Chooser
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store

CARDS = 8
SHAPES = ((8_000, 20), (16_000, 40), (4_000, 10), (30_000, 50))


def nvidia_node(name: str) -> dict[str, Any]:
    """Eight H100."""
    card = {"vendor": "nvidia", "model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_559}
    cards = [{"id": f"{name}-{i}", "index": i, **card} for i in range(CARDS)]
    return node(name, {"kerf.dev/inventory": json.dumps({"v": 1, "cards": cards})}, {"nvidia.com/gpu": "80"})


def registered_node(name: str, key: str, device: dict[str, Any], count: str) -> dict[str, Any]:
    """Eight cards that a plugin of HAMi's kind has registered."""
    devices = [{"id": f"{name}-{i}", "index": i, "count": 10, "health": True, **device} for i in range(CARDS)]
    return node(name, {key: json.dumps(devices)}, {count: "80"})


def metax_node(name: str) -> dict[str, Any]:
    """Eight MetaX cards that can be shared."""
    card = {"totalDevCount": 10, "totalCompute": 100, "totalVRam": 65_536, "healthy": True}
    devices = [{"uuid": f"{name}-{i}", **card} for i in range(CARDS)]
    return node(name, {"metax-tech.com/node-gpu-devices": json.dumps(devices)}, {"metax-tech.com/sgpu": "80"})


def node(name: str, notes: dict[str, str], counts: dict[str, str]) -> dict[str, Any]:
    """A node with these cards."""
    amounts = {"cpu": "192", "memory": "2048Gi", **counts}
    return {
        "kind": "Node",
        "metadata": {"name": name, "annotations": notes},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def mixed_node(number: int, name: str) -> dict[str, Any]:
    """One of six kinds."""
    match number % 6:
        case 0:
            return nvidia_node(name)
        case 1:
            device = {"devmem": 65_536, "devcore": 20, "type": "Ascend910B3"}
            return registered_node(name, "hami.io/node-register-Ascend910B3", device, "huawei.com/Ascend910B3")
        case 2:
            return registered_node(
                name, "hami.io/node-dcu-register", {"devmem": 65_536, "type": "DCU-K100"}, "hygon.com/dcunum"
            )
        case 3:
            return metax_node(name)
        case 4:
            device = {"devmem": 98_304, "type": "XPU"}
            return registered_node(name, "hami.io/node-register-xpu", device, "kunlunxin.com/vxpu")
        case _:
            device = {"devmem": 196_608, "devcore": 304, "type": "AMD Instinct MI300X"}
            return registered_node(name, "hami.io/node-amd-register", device, "amd.com/gpu")


WORDS = (
    ("nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores", 1),
    ("huawei.com/Ascend910B3", "huawei.com/Ascend910B3-memory", "", 1),
    ("hygon.com/dcunum", "hygon.com/dcumem", "hygon.com/dcucores", 1),
    ("metax-tech.com/sgpu", "metax-tech.com/vmemory", "metax-tech.com/vcore", 1024),
    ("kunlunxin.com/vxpu", "kunlunxin.com/vxpu-memory", "", 1),
    ("amd.com/gpu", "amd.com/gpumem", "amd.com/gpucores", 1),
)


def pod(number: int, kinds: int) -> dict[str, Any]:
    """A pod of one of the shapes, for one of the first `kinds` vendors."""
    count, memory, cores, unit = WORDS[number % kinds]
    mib, percent = SHAPES[(number // kinds) % len(SHAPES)]
    if kinds == 1:  # as many classes of pods as six vendors have
        mib += 512 * (number // len(SHAPES) % len(WORDS))
    limits = {count: "1", memory: str(mib // unit)} | ({cores: str(percent)} if cores else {})
    name = f"pod-{number}"
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "1"}
    requests = {"cpu": "2", "memory": "8Gi"}
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "main", "resources": {"limits": limits, "requests": requests}}]},
    }


class Fleet:
    """A store with nodes that are about half full."""

    def __init__(self, nodes: int, kinds: int) -> None:
        self.kinds = kinds
        self.store = Store(SchedulingPolicy(), VENDORS)
        self.verbs = Verbs(self.store.desk, SchedulerMetrics.build(Metrics()))
        self.names = [f"node-{i:05}" for i in range(nodes)]
        for i, name in enumerate(self.names):
            self.store.feed.apply_node("ADDED", nvidia_node(name) if kinds == 1 else mixed_node(i, name))
        for number in range(nodes * CARDS):
            name = self.names[number % nodes]
            kind = 0 if kinds == 1 else (number % nodes) % 6
            self.place(pod(kind + kinds * (number // nodes), kinds), name)

    def place(self, document: dict[str, Any], name: str) -> bool:
        """Charge a pod on a node."""
        ask, stages = self.store.desk.read(document)
        return isinstance(self.store.desk.assume(ask, name, stages), Grant)

    def turn(self, number: int) -> tuple[float, float]:
        """Milliseconds of one answer and of one placement."""
        document = pod(1_000_000 + number, self.kinds)
        body = orjson.dumps({"Pod": document, "NodeNames": self.names})
        start = time.perf_counter()
        fits = orjson.loads(self.verbs.filter(body))["NodeNames"]
        order = orjson.loads(self.verbs.prioritize(orjson.dumps({"Pod": document, "NodeNames": fits}))) if fits else []
        answered = time.perf_counter()
        if not order:
            return (answered - start) * 1000, 0.0
        best = max(order, key=lambda entry: entry["Score"])["Host"]
        ask, stages = self.store.desk.read(document)
        begun = time.perf_counter()
        self.store.desk.assume(ask, best, stages)
        placed = time.perf_counter() - begun
        if number % 2:
            self.store.ledger.undo(ask.uid)
        return (answered - start) * 1000, placed * 1000


def measure(nodes: int = 1_000, turns_each: int = 400) -> dict[str, float]:
    """Medians of both fleets, and their ratios."""
    fleets = {"nvidia": Fleet(nodes, 1), "mixed": Fleet(nodes, len(WORDS))}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in fleets}
    for number in range(turns_each):
        for name, fleet in fleets.items():
            found[name].append(fleet.turn(number))
    medians = {
        name: (statistics.median(a for a, _ in turns[40:]), statistics.median(p for _, p in turns[40:] if p))
        for name, turns in found.items()
    }
    line: dict[str, float] = {"nodes": nodes}
    for position, what in enumerate(("answer", "placement")):
        ours, mixed = medians["nvidia"][position], medians["mixed"][position]
        line |= {
            f"nvidia_{what}_ms": round(ours, 3),
            f"mixed_{what}_ms": round(mixed, 3),
            f"{what}_ratio": round(mixed / ours, 2),
        }
    return line | {"choice_ms": round(statistics.median(choices(fleets["mixed"])), 3)}


def choices(fleet: Fleet, questions: int = 100) -> list[float]:
    """Milliseconds of each answer about a pod that accepts the first three kinds."""
    prices = read_prices(None)
    chooser = Chooser(fleet.store, lambda: prices)
    times = []
    for number in range(questions):
        kinds = tuple((WORDS[kind][0], pod(6 * (2_000_000 + number) + kind, 6)) for kind in range(3))
        start = time.perf_counter()
        chooser.choose(KindQuestion(kinds, keep=number % 5 == 0))
        times.append((time.perf_counter() - start) * 1000)
    return times


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=400)
    args = parser.parse_args(argv)
    print(json.dumps(measure(args.nodes, args.turns)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
