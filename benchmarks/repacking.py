"""Repack on failure, for replays: when a pod fits nowhere, a few running pods move so that it does.

Drives the production Fleet and Engine like `openb.Engine` does and adds nothing to their rules: the node that needs the
fewest moves is chosen, its victims are placed anew by the engine, and all is undone where one of them finds no place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.openb import Answer, Engine, SimNode, SimPod, uses_of
from kerf.model.grant import CardUse, Grant
from kerf.model.verdict import FOREVER, Misfit
from scheduler.core.victims import Evictable, without

MOST_MOVES = 8
"""Pods moved for one that failed."""
NODES_TRIED = 80
BUDGET_PERCENT = 1
"""Moves allowed, as a share of the pods placed so far."""


@dataclass(slots=True)
class _Tenant:
    pod: SimPod
    node: int
    gpus: list[int]


class RepackEngine(Engine):
    """`Engine` with repack on failure; `place` then has the moves as a third item."""

    def reset(self, nodes: Sequence[SimNode], workload: Sequence[tuple[SimPod, float]], seed: int) -> None:
        """Start with empty nodes."""
        super().reset(nodes, workload, seed)
        self.tenants: dict[int, _Tenant] = {}
        self.on_node: list[dict[int, _Tenant]] = [{} for _ in nodes]
        self.count = self.moved = 0

    def place(self, pod: SimPod) -> Answer | tuple[int, list[int], list[tuple[int, int, list[int]]]] | None:  # type: ignore[override]
        """The node and GPUs of a pod and, if others had to move for it, where they went."""
        found = super().place(pod)
        if found is not None:
            self._settle(pod, *found)
            return found
        return self._make_room(pod) if pod.num_gpu else None

    def release(self, pod: SimPod, node: int, gpus: Sequence[int]) -> None:
        """Take a placement back."""
        super().release(pod, node, gpus)
        self.on_node[node].pop(pod.seq)
        del self.tenants[pod.seq]

    def _settle(self, pod: SimPod, node: int, gpus: list[int]) -> None:
        self.tenants[pod.seq] = self.on_node[node][pod.seq] = _Tenant(pod, node, gpus)
        self.count += 1

    def _make_room(self, pod: SimPod) -> tuple[int, list[int], list[tuple[int, int, list[int]]]] | None:
        left = min(MOST_MOVES, self.count * BUDGET_PERCENT // 100 - self.moved)
        plans = sorted(
            (len(victims), node, [victim.pod.seq for victim in victims], victims)
            for node in self._promising(pod)
            for victims in self._victims(pod, node)
            if 0 < len(victims) <= left
        )
        for _, node, _, victims in plans:
            moves = self._try(pod, node, victims)
            if moves is not None:
                self.moved += len(moves)
                tenant = self.tenants[pod.seq]
                return node, tenant.gpus, moves
        return None

    def _promising(self, pod: SimPod) -> list[int]:
        """Nodes where the fewest slices stand on the cards that the pod would need."""
        columns = self.fleet.columns.take(self.rows)
        reasons = self.engine.query(self._ask(pod), self.rows).reasons
        fits = columns.present & (columns.memory - columns.used_memory >= pod.gpu_milli)
        slices = np.sort(np.where(columns.present, np.where(fits, 0, columns.used_slots), 99), axis=1)
        needed = slices[:, : pod.num_gpu].sum(1)
        needed[np.isin(reasons, [int(reason) for reason in FOREVER])] = 999
        order = np.lexsort((np.arange(len(needed)), needed))[:NODES_TRIED]
        return [int(node) for node in order if needed[node] <= MOST_MOVES]

    def _victims(self, pod: SimPod, node: int) -> Iterator[list[_Tenant]]:
        """Pods whose leaving makes room: one small pod, or all of the emptiest cards and some without cards."""
        tenants = sorted(self.on_node[node].values(), key=lambda t: (t.pod.num_gpu * t.pod.gpu_milli, t.pod.seq))
        state = self.fleet.state(self.names[node])
        used = {i: card.used.slots for i, card in enumerate(state.cards)}
        fitting = {i for i, card in enumerate(state.cards) if card.free.memory_mib >= pod.gpu_milli}
        emptiest = sorted(set(used) - fitting, key=lambda i: (used[i], i))[: max(pod.num_gpu - len(fitting), 0)]
        cleared = [tenant for tenant in tenants if set(tenant.gpus) & set(emptiest)]
        singles = [[tenant] for tenant in tenants] if len(emptiest) <= 1 else []
        thirsty = sorted((t for t in tenants if not t.gpus), key=lambda t: (-t.pod.cpu, t.pod.seq))
        wider = [[*cleared, *thirsty[:count]] for count in range(len(thirsty[:MOST_MOVES]) + 1)]
        for chosen in [*singles, *wider]:
            gone = [Evictable("", "", 0, self._held(t), t.pod.cpu, t.pod.mem) for t in chosen]
            if isinstance(self.engine.place_on(self._ask(pod), without(state, gone)), Grant):
                yield chosen
                return

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
            self.fleet.charge(self.names[victim.node], self._held(victim), victim.pod.cpu, victim.pod.mem)
            self._settle(victim.pod, victim.node, victim.gpus)
        self.count -= len(placed) + len(victims)

    def _held(self, tenant: _Tenant) -> dict[str, CardUse]:
        return uses_of(tenant.pod, tenant.node, tenant.gpus)
