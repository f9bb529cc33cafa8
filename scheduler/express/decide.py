"""Which pods the lane binds next, and where: values in, a batch out. Pure.

kube-scheduler asks about one pod at a time and waits for the answer, so while it waits at the door every other pod of
its queue is the lane's. It takes pods by priority, then by age. The lane takes them in the same order, up to the first
one that only kube-scheduler can place: nothing overtakes it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from enum import Enum
from typing import TypeVar

from scheduler.express.seen import Pending

S = TypeVar("S")


class Miss(Enum):
    """Why a pod gets no seat."""

    FULL = "no node has room"  # nor for any other pod of its kind
    PASSED = "another bind has it, or it waits for others"


def in_order(queue: Iterable[Pending], at_the_door: str, passed: Collection[str]) -> list[Pending]:
    """The pods that the lane may bind now, most important and oldest first.

    `at_the_door` is the uid of the pod about which kube-scheduler asks. `passed` are its own: it has asked about them
    lately, or it does not have them in its queue. Neither these nor pods that it has refused keep others waiting.
    """
    mine: list[Pending] = []
    ahead: list[tuple[int, str]] = []
    for pod in queue:
        if pod.uid == at_the_door or pod.held_back:
            continue
        if not pod.left and pod.uid not in passed:
            mine.append(pod)
        elif pod.left and not pod.tried and not pod.nominated and pod.uid not in passed:
            ahead.append(pod.rank)
    last = min(ahead, default=None)
    return sorted((pod for pod in mine if last is None or pod.rank <= last), key=lambda pod: pod.order)


def batch(
    pods: Iterable[Pending],
    full: set[object],
    kind: Callable[[Pending], object],
    seat: Callable[[Pending], S | Miss],
    go_on: Callable[[], bool],
) -> Iterator[S]:
    """Seat the pods one after another while `go_on` says so. Where one finds no room, its whole kind is passed over.

    `full` has the kinds for which there is no room, and is given those that turn out to be full.
    """
    for pod in pods:
        key = kind(pod)
        if key in full:
            continue
        if not go_on():
            return
        found = seat(pod)
        if found is Miss.FULL:
            full.add(key)
        elif not isinstance(found, Miss):
            yield found
