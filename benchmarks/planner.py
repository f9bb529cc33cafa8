"""`make bench-planner`: the planner compared with greedy on contended batches, and its repeatability.

Instances are synthetic: twelve classes of pods (MiB by percent of SMs, some of several cards) and four models of cards
on nodes of four and eight, after churn: at a fill of 0.95, nine cards in ten are full and the others hold anything.
Everything runs in one thread. Times are wall time and include building the model.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass

from kerf.values.ask import ContainerAsk, PodAsk
from kerf.values.device import Card
from kerf.values.grant import CardUse
from kerf.values.policy import PlannerSettings, SchedulingPolicy
from scheduler.core.state import CardState, NodeState
from scheduler.solver.greedy import plan_greedy
from scheduler.solver.problem import Plan, Problem
from scheduler.solver.solve import plan

POLICY = SchedulingPolicy(planner=PlannerSettings(deterministic_limit=0.5))
"""Half a unit is about half a second to a second of one core."""
SIZES = ((20, 50), (50, 50), (50, 200), (100, 200), (20, 200), (20, 1000), (50, 1000), (100, 1000))
OVERLOADED = SIZES[:4]
"""Pods by cards where a batch finds far less room than it asks for."""
SEEDS = (1, 2, 3)
REPEATS = 5
MODELS = (
    ("Tesla T4", 15_109, 4, 48_000),
    ("NVIDIA A10", 22_731, 4, 64_000),
    ("NVIDIA A100-SXM4-80GB", 81_251, 8, 96_000),
    ("NVIDIA H100 80GB HBM3", 81_559, 8, 128_000),
)
"""Model, MiB, cards per node, CPU of the node in thousandths."""
CLASSES = (
    (2_000, 10, 1, 1_000, 12),
    (4_000, 20, 1, 2_000, 12),
    (6_000, 25, 1, 2_000, 12),
    (8_000, 30, 1, 3_000, 12),
    (10_000, 40, 1, 4_000, 10),
    (14_000, 50, 1, 4_000, 10),
    (18_000, 60, 1, 6_000, 8),
    (22_000, 70, 1, 6_000, 6),
    (40_000, 50, 1, 8_000, 6),
    (60_000, 80, 1, 8_000, 4),
    (80_000, 100, 1, 10_000, 4),
    (40_000, 50, 2, 12_000, 4),
)
"""MiB and percent of SMs per card, cards, CPU in thousandths, how common."""


@dataclass(frozen=True)
class Case:
    """A kind of instance: pods that arrive, cards of the fleet, share of its memory that is held, its seed."""

    pods: int
    cards: int
    fill: float
    seed: int


def an_instance(case: Case, policy: SchedulingPolicy) -> Problem:
    """The batch and the fleet of a case."""
    rng = random.Random(f"{case.pods} {case.cards} {case.fill} {case.seed}")
    nodes: list[NodeState] = []
    while (done := sum(len(node.cards) for node in nodes)) < case.cards:
        nodes.append(_node(f"node-{len(nodes):04}", case.cards - done, case.fill, rng))
    return Problem(tuple(nodes), tuple(_pod(i, rng) for i in range(case.pods)), policy)


def _node(name: str, most: int, fill: float, rng: random.Random) -> NodeState:
    """A node after churn: most cards are full, the others hold anything. Used CPU roughly follows used cards."""
    model, memory, count, cpu = rng.choice(MODELS)
    cards, free = [], 0.0
    for i in range(min(count, most)):
        share = 1.0 if rng.random() < 2 * fill - 1 else rng.random()
        other = min(1.0, max(0.0, share + rng.uniform(-0.25, 0.25)))
        memory_share, cores_share = (share, other) if rng.random() < 0.5 else (other, share)
        used = CardUse(int(memory * memory_share), int(100 * cores_share), 1 + int(4 * share) if share > 0.1 else 0)
        card = Card(f"GPU-{name}-{i}", i, "nvidia", model, memory, numa=i * 2 // count)
        cards.append(CardState(card, used if used.slots else CardUse()))
        free += (1 - share) * cpu / count * rng.uniform(0.6, 1.6)
    return NodeState(name, tuple(cards), int(free), 512_000)


def _draw(rng: random.Random) -> tuple[int, int, int, int, int]:
    return rng.choices(CLASSES, weights=[kind[4] for kind in CLASSES])[0]


def _pod(i: int, rng: random.Random) -> PodAsk:
    memory, cores, cards, cpu, _ = _draw(rng)
    ask = ContainerAsk("main", cards, memory_mib=memory, cores=cores, vendor="nvidia")
    return PodAsk("default", f"pod-{i:04}", f"uid-{i:04}", (ask,), cpu_milli=cpu, memory_mib=2 * memory // 10)


@dataclass(frozen=True)
class Row:
    """The results of greedy and of the planner for one case."""

    case: Case
    greedy: Plan
    found: Plan
    greedy_s: float
    plan_s: float

    @property
    def text(self) -> str:
        before, after = len(self.greedy.assignments), len(self.found.assignments)
        opened = f"{-self.greedy.score[-1]}->{-self.found.score[-1]}"
        name = f"{self.case.pods} x {self.case.cards}"
        return (
            f"{name:>10} {self.case.fill:4.2f} {self.case.seed:4} {before:7} {after:7}"
            f" {_percent(before, after):+6.0f} %"
            f" {opened:>7} {self.found.adopted:>7} {self.found.status:>9} {100 * self.found.gap:6.2f} %"
            f" {1000 * self.greedy_s:7.0f} {1000 * self.plan_s:7.0f}"
        )


def measure(case: Case) -> Row:
    """Plan a case greedily, then with the solver."""
    problem = an_instance(case, POLICY)
    start = time.perf_counter()
    greedy = plan_greedy(problem)
    middle = time.perf_counter()
    found = plan(problem)
    return Row(case, greedy, found, middle - start, time.perf_counter() - middle)


def _percent(before: int, after: int) -> float:
    return 100 * (after - before) / max(1, before)


def digest() -> str:
    """A digest of the plans of three contended instances."""
    plans = [plan(an_instance(Case(100, 200, 0.95, seed), POLICY)) for seed in SEEDS]
    return hashlib.sha256(repr(plans).encode()).hexdigest()


def repeatable() -> int:
    """How many processes, each with its own hash seed, get the same plans as the first."""
    answers = []
    for seed in range(REPEATS):
        command = [sys.executable, __file__, "--digest"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True
        )
        answers.append(done.stdout.strip())
    return sum(answer == answers[0] for answer in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digest", action="store_true", help="print a digest of some plans and exit")
    if parser.parse_args().digest:
        print(digest())
        return
    plan(an_instance(Case(5, 20, 0.95, 0), POLICY))  # loads the solver's library
    print("pods x cards fill seed  greedy    plan     more  opened adopted    status      gap  gr. ms plan ms")
    rows = []
    for fill in (0.95, 0.7):
        for pods, cards in SIZES:
            for seed in SEEDS if fill > 0.9 else SEEDS[:1]:
                rows.append(measure(Case(pods, cards, fill, seed)))
                print(rows[-1].text, flush=True)
    small = [row for row in rows if (row.case.pods, row.case.cards) in OVERLOADED and row.case.fill > 0.9]
    before, after = (sum(len(each.assignments) for each in plans) for plans in _both(small))
    summary = {
        "instances": len(rows),
        "worse_than_greedy": sum(row.found.score < row.greedy.score for row in rows),
        "more_pods_pct_small": round(_percent(before, after), 1),
        "t_100x1000_s": round(max(row.plan_s for row in rows if (row.case.pods, row.case.cards) == (100, 1000)), 3),
        "repeatable": f"{repeatable()}/{REPEATS}",
    }
    print(json.dumps(summary))


def _both(rows: list[Row]) -> tuple[list[Plan], list[Plan]]:
    return [row.greedy for row in rows], [row.found for row in rows]


if __name__ == "__main__":
    main()
