"""The door at which kube-scheduler's filter waits while the express lane binds other pods of the same queue.

kube-scheduler schedules one pod at a time: while it waits for an answer it takes no other pod from its queue, so what
the lane binds meanwhile it has not begun to schedule. The lane opens the door in its term and closes it afterwards.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import orjson

from kerf.wire.json import at

HOLD_S = 2.0
"""A filter waits at most this long."""
PASSED_ON_S = 0.8
"""A filter that a follower has passed on waits at most this long: the follower gives the leader a second."""
BIND_S = 2.0
"""A bind waits at most this long for the lane's own bind of the same pod."""


@dataclass(frozen=True, slots=True)
class Knock:
    """kube-scheduler waits for an answer about a pod; `answer` lets it go on and may be called from any thread."""

    uid: str
    loop: asyncio.AbstractEventLoop
    """Where Bindings are sent."""
    asked: float
    until: float
    """Monotonic times: when kube-scheduler asked, and when it is answered in any case."""
    answer: Callable[[], None]


class Lane(Protocol):
    """The side that binds. Called on the event loop; everything returns at once."""

    def wants(self, uid: str) -> bool:
        """Whether there is enough to bind while kube-scheduler waits with this pod."""

    def knock(self, knock: Knock) -> None:
        """Kube-scheduler waits."""

    def passes(self, uid: str) -> None:
        """Kube-scheduler gets its answer about the pod now, so the pod is its own."""

    def under_way(self, uid: str) -> "asyncio.Task[None] | None":
        """The lane's bind of a pod, if there is one."""

    def take_room(self, uid: str, node: str) -> bool:
        """Count the pod on kube-scheduler's choice, or say that the lane has given the room there away since."""

    def give_room_back(self, uid: str) -> None:
        """The pod is not bound after all."""

    def preempts(self, uid: str, nodes: Collection[str]) -> None:
        """Kube-scheduler is about to end other pods for this one on one of the nodes."""


class Door:
    """Lives on the event loop; opened and closed from another thread."""

    def __init__(self) -> None:
        self._lane: Lane | None = None

    @property
    def guarded(self) -> bool:
        """Whether filters may have to wait."""
        return self._lane is not None

    def open(self, lane: Lane) -> None:
        """From now on filters may wait."""
        self._lane = lane

    def close(self) -> None:
        """Filters pass at once."""
        self._lane = None

    async def hold(self, body: bytes, seconds: float = HOLD_S) -> None:
        """Let a filter wait as long as the lane works, at most so long."""
        lane = self._lane
        if lane is None or not (uid := _uid(body)) or lane.under_way(uid) is not None:
            return
        try:
            if lane.wants(uid):
                await self._wait(lane, uid, seconds)
        finally:
            lane.passes(uid)

    async def settle(self, uid: str) -> None:
        """Let a bind wait for the lane's own bind of the same pod."""
        task = self._lane.under_way(uid) if self._lane is not None else None
        if task is not None:
            await asyncio.wait([task], timeout=BIND_S)

    def take_room(self, uid: str, node: str) -> bool:
        """Whether a pod may be bound to the node that kube-scheduler has chosen; from now on it counts there."""
        return self._lane is None or self._lane.take_room(uid, node)

    def give_room_back(self, uid: str) -> None:
        """The pod is not bound after all."""
        if self._lane is not None:
            self._lane.give_room_back(uid)

    def preempts(self, uid: str, nodes: Collection[str]) -> None:
        """Kube-scheduler is about to end other pods for this one on one of the nodes."""
        if self._lane is not None and nodes:
            self._lane.preempts(uid, nodes)

    async def _wait(self, lane: Lane, uid: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        def answer() -> None:
            loop.call_soon_threadsafe(answered.set)

        asked = time.monotonic()
        lane.knock(Knock(uid, loop, asked, asked + seconds, answer))
        try:
            await asyncio.wait_for(answered.wait(), seconds)
        except TimeoutError:
            return


def _uid(body: bytes) -> str:
    try:
        pod = at(orjson.loads(body), "Pod")
    except orjson.JSONDecodeError:
        return ""
    return str(at(pod, "metadata").get("uid") or "")
