"""FGD, the baseline of the openb replays: Fragmentation Gradient Descent as the USENIX ATC'23 paper describes it.

A node is fragmented, for a class of pods, by the free GPU that the class cannot use there: all of it where the node
lacks CPU, cards or the model, else what is free on cards with too little for the class. A pod goes where the mean over
the classes of the target workload grows least. As in the paper's artifact the growth becomes a score of 0..100 by a
sigmoid, and equal scores are taken in the order of the nodes' names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.openb import Answer, SimNode, SimPod

FULL = 1000
WIDTH = 8
_NONE = -1
Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(slots=True)
class _Known:
    """A class of pods on every node: its score and card there, up to a version of the node."""

    score: Reals
    card: Ints
    version: Ints


class Fgd:
    """The interface of `benchmarks.openb.Engine`."""

    def reset(self, nodes: Sequence[SimNode], workload: Sequence[tuple[SimPod, float]], seed: int) -> None:
        """Start with empty nodes."""
        del seed
        self.models = sorted({node.model for node in nodes})
        self.cpu = np.array([node.cpu for node in nodes])
        self.mem = np.array([node.mem for node in nodes])
        self.gpu = np.array([[FULL if i < node.gpus else _NONE for i in range(WIDTH)] for node in nodes])
        self.model = np.array([self.models.index(node.model) for node in nodes])
        classes = [(pod, share) for pod, share in workload if pod.num_gpu]
        self.share = np.array([share for _, share in classes])
        self.total = sum(share for _, share in workload)
        self.class_cpu = np.array([pod.cpu for pod, _ in classes])
        self.class_gpus = np.array([pod.num_gpu for pod, _ in classes])
        self.sizes, self.size_of = np.unique([pod.gpu_milli for pod, _ in classes], return_inverse=True)
        self.accepts = np.array([[not pod.spec or one in pod.spec for pod, _ in classes] for one in self.models])
        self.version: Ints = np.zeros(len(nodes), np.int64)
        self.known: dict[object, _Known] = {}

    def place(self, pod: SimPod) -> Answer | None:
        """The node and GPUs of a pod, None if it fits nowhere."""
        fits = np.flatnonzero(self._fits(pod))
        if not len(fits):
            return None
        known = self.known.setdefault((pod.cpu, pod.num_gpu, pod.gpu_milli, pod.spec), self._nothing())
        stale = fits[known.version[fits] != self.version[fits]]
        if len(stale):
            known.score[stale], known.card[stale] = self._scores(pod, stale)
            known.version[stale] = self.version[stale]
        node = int(fits[known.score[fits].argmax()])
        shared = pod.num_gpu == 1 and pod.gpu_milli < FULL
        gpus = [int(known.card[node])] if shared else np.flatnonzero(self.gpu[node] == FULL)[: pod.num_gpu].tolist()
        self._book(pod, node, gpus, 1)
        return node, gpus

    def release(self, pod: SimPod, node: int, gpus: Sequence[int]) -> None:
        """Undo a placement."""
        self._book(pod, node, list(gpus), -1)

    # ---- inside
    def _nothing(self) -> _Known:
        rows = len(self.cpu)
        return _Known(np.zeros(rows), np.zeros(rows, np.int64), np.full(rows, -1))

    def _fits(self, pod: SimPod) -> NDArray[np.bool_]:
        fits: NDArray[np.bool_] = (self.cpu >= pod.cpu) & (self.mem >= pod.mem)
        if pod.num_gpu:
            fits &= (self.gpu >= pod.gpu_milli).sum(1) >= pod.num_gpu
        if pod.spec:
            fits &= np.isin(self.model, [i for i, model in enumerate(self.models) if model in pod.spec])
        return fits

    def _book(self, pod: SimPod, node: int, gpus: list[int], sign: int) -> None:
        self.cpu[node] -= sign * pod.cpu
        self.mem[node] -= sign * pod.mem
        self.gpu[node, gpus] -= sign * pod.gpu_milli
        self.version[node] += 1

    def _fragments(self, cpu: Ints, gpu: Ints, model: Ints) -> Reals:
        """Thousandths of a GPU that the mean class cannot use; to classes without GPUs all of it is of no use."""
        free = np.maximum(gpu, 0)
        serves = free[:, None, :] >= self.sizes[None, :, None]
        count, amount = serves.sum(2)[:, self.size_of], (free[:, None, :] * serves).sum(2)[:, self.size_of]
        runs = (count >= self.class_gpus) & (cpu[:, None] >= self.class_cpu) & self.accepts[model]
        found: Reals = free.sum(1) * self.total - (runs * amount) @ self.share
        return found

    def _scores(self, pod: SimPod, rows: Ints) -> tuple[Reals, Ints]:
        """Of each row, the best score and, for a part of a GPU, the card that has it."""
        cpu, gpu, model = self.cpu[rows], self.gpu[rows], self.model[rows]
        before = self._fragments(cpu, gpu, model)
        if pod.num_gpu != 1 or pod.gpu_milli == FULL:
            idle = gpu == FULL
            after = np.where(idle & (idle.cumsum(1) <= pod.num_gpu), 0, gpu)
            return _score(self._fragments(cpu - pod.cpu, after, model) - before), np.zeros(len(rows), np.int64)
        score = np.full(gpu.shape, -1.0)
        at, card = np.nonzero(gpu >= pod.gpu_milli)
        after = gpu[at]
        after[np.arange(len(at)), card] -= pod.gpu_milli
        score[at, card] = _score(self._fragments(cpu[at] - pod.cpu, after, model[at]) - before[at])
        return score.max(1), score.argmax(1)


def _score(growth: Reals) -> Reals:
    found: Reals = np.floor(100 / (1 + np.exp(growth / FULL)))
    return found
