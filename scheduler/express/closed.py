"""Nodes that get no pod of the lane for a while, whatever room they have. The caller holds the terrain's lock."""

from collections.abc import Callable, Collection

AVOID_S = 30.0
"""A node whose kubelet refused a pod of the lane gets no other one for this long."""
PREEMPTS_S = 5.0
"""Between the pods that kube-scheduler chooses as victims and the watch event that names the preempting pod's node."""


class Closed:
    """Whose kubelet refused a pod, or where a preempting pod waits for others to end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._avoid: dict[str, float] = {}
        self._nominated: dict[str, str] = {}
        self._preempts: dict[str, tuple[frozenset[str], float]] = {}
        """By uid of a pod, on which nodes kube-scheduler may end others for it: it names one of them in a moment."""

    def names(self) -> set[str]:
        """The nodes that are closed now."""
        now = self._clock()
        found = {*self._nominated.values(), *(node for node, until in self._avoid.items() if until > now)}
        return found.union(*(nodes for nodes, until in self._preempts.values() if until > now))

    def avoid(self, node: str) -> None:
        """Its kubelet has just refused a pod."""
        self._avoid[node] = self._clock() + AVOID_S

    def preempts(self, uid: str, nodes: Collection[str]) -> None:
        """Others end for a pod on one of these nodes, and nothing says yet on which."""
        self._preempts[uid] = frozenset(nodes), self._clock() + PREEMPTS_S

    def nominate(self, uid: str, node: str) -> None:
        """The node that a waiting pod has in mind, empty for none."""
        self._nominated.pop(uid, None)
        if node:
            self._nominated[uid] = node
            self._preempts.pop(uid, None)

    def forget(self, uid: str) -> None:
        """The pod waits no longer."""
        self._nominated.pop(uid, None)
        self._preempts.pop(uid, None)

    def tidy(self) -> None:
        """Drop what is over."""
        now = self._clock()
        self._avoid = {node: until for node, until in self._avoid.items() if until > now}
        self._preempts = {uid: each for uid, each in self._preempts.items() if each[1] > now}
