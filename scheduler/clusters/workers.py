"""One worker cluster seen from the manager: its nodes, pods, queues and flavors, and what it can offer a workload."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.mirror import Mirror
from kerf.kube.watch import Follower, PermittedFollower
from kerf.values.ask import PodAsk
from kerf.values.quota import class_of
from kerf.values.verdict import Misfit
from kerf.wire.classes import class_label, selected_classes
from kerf.wire.json import at
from kerf.wire.kueue import path_of
from kerf.wire.multikueue import Dispatchable
from kerf.wire.quota import PATH as TENANT_QUOTAS
from kerf.wire.resourcequota import PATH as RESOURCE_QUOTAS
from kerf.wire.resources import parse_pod
from scheduler.clusters.nominate import Offer
from scheduler.core.explain import explain_misfit
from scheduler.core.state import NodeState
from scheduler.solver.problem import Problem, QuotaRoom
from scheduler.solver.solve import plan
from scheduler.state.desk import Desk
from scheduler.state.store import Store


@dataclass(frozen=True, slots=True)
class Need:
    """A workload and the asks of all its pods that want cards."""

    workload: Dispatchable
    asks: tuple[PodAsk, ...]


def need_of(workload: Dispatchable, desk: Desk) -> Need:
    """What the pods of a workload ask of a cluster. Raises WireError."""
    asks: list[PodAsk] = []
    for group in workload.groups:
        ask = parse_pod(group.pod, desk.names, desk.policy.defaults)
        if ask.containers:
            # A worker places each pod by itself or by its own gang rules; here only room for all of them counts.
            alike = replace(ask, gang=None, gang_size=0, name=f"{workload.name}/{group.name}")
            asks.extend(replace(alike, uid=f"{workload.uid}/{group.name}/{i}") for i in range(group.count))
    return Need(workload, tuple(asks))


class Limits(Protocol):
    """What keeps a store's quotas up to date: a Follower's callbacks, and one round."""

    def replace_tenants(self, items: list[dict[str, Any]]) -> None: ...
    def change_tenant(self, kind: str, item: dict[str, Any]) -> None: ...
    def replace_hard(self, items: list[dict[str, Any]]) -> None: ...
    def change_hard(self, kind: str, item: dict[str, Any]) -> None: ...
    def refresh(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Books:
    """The state of one worker cluster, empty at first."""

    store: Store
    limits: Limits


class Worker:
    """Follows a cluster into `books`; cards count, and its tenants' quotas where the kubeconfig's rights allow.

    The worker's taints and other node labels are for its own scheduler.

    `honours_pin` says that its Kueue assigns no flavor but the pinned ones.
    """

    def __init__(
        self, name: str, kube: Kube, books: Books, changed: threading.Event, *, honours_pin: bool = False
    ) -> None:
        self.name = name
        self.desk, feed = books.store.desk, books.store.feed
        self._honours_pin = honours_pin
        self._answers: dict[str, tuple[tuple[object, ...], Offer]] = {}
        kinds = ("LocalQueue", "ClusterQueue", "ResourceFlavor")
        self._kueue = Mirror(kube, {path_of(kind): kind for kind in kinds}, changed=changed)
        self._limits = limits = books.limits
        quotas = (
            (TENANT_QUOTAS, limits.replace_tenants, limits.change_tenant),
            (RESOURCE_QUOTAS, limits.replace_hard, limits.change_hard),
        )
        self._followers = (
            Follower(kube, paths.NODES, _then(feed.replace_nodes, changed.set), _then2(feed.apply_node, changed.set)),
            Follower(kube, paths.PODS, _then(feed.replace_pods, changed.set), _then2(feed.apply_pod, changed.set)),
            *(
                PermittedFollower(kube, path, _then(all_, changed.set), _then2(one, changed.set), optional=True)
                for path, all_, one in quotas
            ),
        )

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._kueue.start()
        for follower in self._followers:
            follower.start()

    def stop(self) -> None:
        """Stop following."""
        self._kueue.stop()
        for follower in self._followers:
            follower.stop()

    @property
    def ready(self) -> bool:
        """Whether everything was read once."""
        return self._kueue.synced and all(follower.synced.is_set() for follower in self._followers)

    def offer(self, need: Need, before: Sequence[Need]) -> Offer:
        """What this cluster says of a workload, when all that was nominated to it `before` takes its part first."""
        if not self.ready:
            return Offer(self.name, "it has not been read yet")
        flavors, problem = self._flavors_for(need.workload)
        if problem:
            return Offer(self.name, problem)
        if not need.asks:
            return Offer(self.name, flavors=flavors)
        earlier = tuple(other.workload.uid for other in before)
        self._limits.refresh()
        rooms = self.desk.rooms(ask.namespace for other in (*before, need) for ask in other.asks)
        stamp = (need.workload.version, self.desk.version, self.desk.inventory, flavors, earlier, rooms)
        known = self._answers.get(need.workload.uid)
        if known is None or known[0] != stamp:
            known = self._answers[need.workload.uid] = (stamp, self._placed(need, before, flavors, rooms))
        return known[1]

    def forget(self, uids: set[str]) -> None:
        """Keep answers for these workloads alone."""
        self._answers = {uid: answer for uid, answer in self._answers.items() if uid in uids}

    def _placed(
        self, need: Need, before: Sequence[Need], flavors: tuple[str, ...], rooms: tuple[QuotaRoom, ...]
    ) -> Offer:
        states = self.desk.states()

        def missing(asks: tuple[PodAsk, ...]) -> set[str]:
            return set(plan(Problem(states, asks, self.desk.policy, quotas=rooms)).unplaced)

        left = missing((*(ask for other in before for ask in other.asks), *need.asks))
        if not left:
            return Offer(self.name, "", self._free(need.workload.classes, states), flavors)
        if before and not missing(need.asks):
            names = ", ".join(other.workload.key for other in before)
            return Offer(self.name, f"its free cards are promised to {names}")
        fit = sum(ask.uid not in left for ask in need.asks)
        return Offer(self.name, f"{fit} of {len(need.asks)} pods fit now{self._why(need, states, rooms)}")

    def _why(self, need: Need, states: tuple[NodeState, ...], rooms: tuple[QuotaRoom, ...]) -> str:
        """Why a pod fits on no node: its quota, or the most frequent reason."""
        ask = need.asks[0]
        answers = [self.desk.by_cards_alone(ask, state) for state in states]
        misses = [answer for answer in answers if isinstance(answer, Misfit)]
        if not states:
            return "; no node of it has cards"
        if not plan(Problem(states, need.asks, self.desk.policy)).unplaced:
            owners = " and ".join(sorted({room.owner for room in rooms if room.covers(ask)}))
            return f"; more does not fit within the quota of {owners} there" if owners else ""
        if len(misses) < len(answers):
            return ""
        (said, nodes), *_ = Counter(explain_misfit(miss) for miss in misses).most_common(1)
        return f"; {said} on {nodes} of {len(states)} nodes"

    def _flavors_for(self, workload: Dispatchable) -> tuple[tuple[str, ...], str]:
        """The worker's flavors of the workload's class, or why its queue cannot keep to that class."""
        queue = self._kueue.get("LocalQueue", workload.queue, workload.namespace)
        if queue is None:
            return (), f"it has no LocalQueue {workload.namespace}/{workload.queue}"
        name = str(queue["spec"].get("clusterQueue"))
        cluster_queue = self._kueue.get("ClusterQueue", name)
        if cluster_queue is None:
            return (), f"it has no ClusterQueue {name}"
        if not workload.classes:
            return (), ""
        if len(workload.classes) > 1:
            return (), f"classes {', '.join(workload.classes)} in one workload cannot be kept apart on a worker"
        listed = [
            str(each["name"])
            for group in cluster_queue["spec"].get("resourceGroups") or ()
            for each in group.get("flavors") or ()
        ]
        ours = tuple(sorted(each for each in listed if workload.classes[0] in self._classes(each)))
        if not ours:
            return (), f"its ClusterQueue {name} has no flavor with {class_label(workload.classes[0])}"
        others = sorted(each for each in listed if each not in ours and self._classes(each))
        if others and not self._honours_pin:
            return (
                (),
                f"its ClusterQueue {name} may assign {', '.join(others)} instead: turn on ConcurrentAdmission there",
            )
        return ours, ""

    def _classes(self, flavor: str) -> tuple[str, ...]:
        found = self._kueue.get("ResourceFlavor", flavor) or {}
        return selected_classes(at(found, "spec", "nodeLabels"))

    def _free(self, classes: tuple[str, ...], states: tuple[NodeState, ...]) -> int:
        return sum(
            max(card.free.memory_mib, 0)
            for state in states
            for card in state.cards
            if card.usable and (not classes or class_of(card.card).slug in classes)
        )


def _then(act: Callable[[list[dict[str, Any]]], None], after: Callable[[], None]) -> Callable[..., None]:
    def both(items: list[dict[str, Any]]) -> None:
        act(items)
        after()

    return both


def _then2(act: Callable[[str, dict[str, Any]], None], after: Callable[[], None]) -> Callable[..., None]:
    def both(kind: str, item: dict[str, Any]) -> None:
        act(kind, item)
        after()

    return both
