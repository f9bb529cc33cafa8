"""Repack on failure, for replays: if a pod fits nowhere, move a few running pods so that it does.

Drives the production Fleet and Engine like `openb.Engine` and adds nothing to their rules. It chooses the node that
needs the fewest moves and lets the engine place the victims again. If one of them does not fit, it undoes everything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from benchmarks.openb import Answer, Engine, SimNode, SimPod, uses_of
from kerf.values.ask import PodAsk
from kerf.values.grant import CardUse
from kerf.values.verdict import FOREVER, Misfit
from scheduler.core.state import NodeState

MOST_MOVES = 8
"""Maximum pods moved for one that failed."""
PLANS_TRIED = 40
BUDGET_PERCENT = 1
"""Moves allowed, as a share of the pods placed so far."""


@dataclass(slots=True)
class _Tenant:
    pod: SimPod
    node: int
    gpus: list[int]


class RepackEngine(Engine):
    """`Engine` with repack on failure. `place` then returns the moves as a third item."""

    def reset(self, nodes: Sequence[SimNode], workload: Sequence[tuple[SimPod, float]], seed: int) -> None:
        """Start with empty nodes."""
        super().reset(nodes, workload, seed)
        self.tenants: dict[int, _Tenant] = {}
        self.on_node: list[dict[int, _Tenant]] = [{} for _ in nodes]
        self.count = self.moved = 0

    def place(self, pod: SimPod) -> Answer | tuple[int, list[int], list[tuple[int, int, list[int]]]] | None:  # type: ignore[override]
        """The node and GPUs of a pod and, if others had to move for it, their new places."""
        found = super().place(pod)
        if found is not None:
            self._settle(pod, *found)
            return found
        return self._make_room(pod) if pod.num_gpu else None

    def release(self, pod: SimPod, node: int, gpus: Sequence[int]) -> None:
        """Undo a placement."""
        super().release(pod, node, gpus)
        self.on_node[node].pop(pod.seq)
        del self.tenants[pod.seq]

    def _settle(self, pod: SimPod, node: int, gpus: list[int]) -> None:
        self.tenants[pod.seq] = self.on_node[node][pod.seq] = _Tenant(pod, node, gpus)
        self.count += 1

    def _make_room(self, pod: SimPod) -> tuple[int, list[int], list[tuple[int, int, list[int]]]] | None:
        worth_it = min(MOST_MOVES, 1 + pod.num_gpu * pod.gpu_milli // 1000)
        left = min(worth_it, self.count * BUDGET_PERCENT // 100 - self.moved)
        elsewhere: dict[PodAsk, bool] = {}
        plans = sorted(
            (len(victims), sum(v.pod.num_gpu * v.pod.gpu_milli for v in victims), victims[0].pod.seq, node, victims)
            for node in self._accepted(pod)
            for victims in self._victims(pod, node)
            if 0 < len(victims) <= left and all(self._placeable(victim, elsewhere) for victim in victims)
        )
        for *_, node, victims in plans[:PLANS_TRIED]:
            moves = self._try(pod, node, victims)
            if moves is not None:
                self.moved += len(moves)
                return node, self.tenants[pod.seq].gpus, moves
        return None

    def _accepted(self, pod: SimPod) -> list[int]:
        reasons = self.engine.query(self._ask(pod), self.rows).reasons
        return np.flatnonzero(~np.isin(reasons, [int(reason) for reason in FOREVER])).tolist()

    def _placeable(self, tenant: _Tenant, known: dict[PodAsk, bool]) -> bool:
        """Whether a pod like this one fits somewhere now."""
        ask = self._ask(tenant.pod)
        if ask not in known:
            known[ask] = bool(self.engine.query(ask, self.rows).feasible.any())
        return known[ask]

    def _victims(self, pod: SimPod, node: int) -> Iterator[list[_Tenant]]:
        """Sets of pods to move: each single pod, or all pods of the emptiest cards and some without cards."""
        tenants = sorted(self.on_node[node].values(), key=lambda t: (t.pod.num_gpu * t.pod.gpu_milli, t.pod.seq))
        state = self.fleet.state(self.names[node])
        yield from ([tenant] for tenant in tenants if _makes_room(pod, state, [tenant]))
        used = {i: card.used.slots for i, card in enumerate(state.cards)}
        fitting = {i for i, card in enumerate(state.cards) if card.free.memory_mib >= pod.gpu_milli}
        emptiest = sorted(set(used) - fitting, key=lambda i: (used[i], i))[: max(pod.num_gpu - len(fitting), 0)]
        cleared = [tenant for tenant in tenants if set(tenant.gpus) & set(emptiest)]
        thirsty = sorted((t for t in tenants if not t.gpus), key=lambda t: (-t.pod.cpu, t.pod.seq))[:MOST_MOVES]
        wider = ([*cleared, *thirsty[:count]] for count in range(len(thirsty) + 1))
        yield from islice((chosen for chosen in wider if len(chosen) > 1 and _makes_room(pod, state, chosen)), 1)

    def _try(self, pod: SimPod, node: int, victims: list[_Tenant]) -> list[tuple[int, int, list[int]]] | None:
        """Move the victims and place the pod on the node, or undo everything."""
        for victim in victims:
            self.release(victim.pod, victim.node, victim.gpus)
        grant = self.engine.place(self._ask(pod), self.names[node])
        if isinstance(grant, Misfit):
            raise AssertionError((pod, node, grant))
        self._settle(pod, node, self._charge(pod, node, grant))
        moves: list[tuple[int, int, list[int]]] = []
        for victim in sorted(victims, key=lambda t: (-t.pod.num_gpu * t.pod.gpu_milli, t.pod.seq)):
            found = super().place(victim.pod)
            if found is None:
                self._undo(pod, victims, moves)
                return None
            self._settle(victim.pod, *found)
            moves.append((victim.pod.seq, *found))
        self.count -= len(moves)
        return moves

    def _undo(self, pod: SimPod, victims: list[_Tenant], moves: list[tuple[int, int, list[int]]]) -> None:
        placed = [pod.seq, *(seq for seq, _, _ in moves)]
        for seq in placed:
            tenant = self.tenants[seq]
            self.release(tenant.pod, tenant.node, tenant.gpus)
        for victim in victims:
            held = self._held(victim)
            self.fleet.charge(self.names[victim.node], held, victim.pod.cpu, victim.pod.mem, vendor="nvidia")
            self._settle(victim.pod, victim.node, victim.gpus)
        self.count -= len(placed) + len(victims)

    def _held(self, tenant: _Tenant) -> dict[str, CardUse]:
        return uses_of(tenant.pod, tenant.node, tenant.gpus)


def _makes_room(pod: SimPod, state: NodeState, gone: list[_Tenant]) -> bool:
    """Whether the pod fits once these pods are gone. The engine confirms it."""
    if state.free_cpu_milli + sum(t.pod.cpu for t in gone) < pod.cpu:
        return False
    if state.free_memory_mib + sum(t.pod.mem for t in gone) < pod.mem:
        return False
    free = [card.free.memory_mib for card in state.cards]
    for tenant in gone:
        for gpu in tenant.gpus:
            free[gpu] += tenant.pod.gpu_milli
    return sum(amount >= pod.gpu_milli for amount in free) >= pod.num_gpu
