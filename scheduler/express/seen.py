"""A pod as the lane sees it: read once from its JSON, outside every lock. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import FINISHED
from scheduler.core.known_pods import why_not
from scheduler.core.neighbours import Term, terms_of
from scheduler.express.nodes import Demands, demands_of
from scheduler.express.requests import UNREADABLE, requests_of

NO_CARDS = "spec.containers: none asks for cards"
_TRIED = frozenset({"Unschedulable", "SchedulerError"})
_REFUSALS = ("OutOf", "NodeAffinity", "UnexpectedAdmissionError", "Preempting")
_REJECTED = "Pod was rejected"
"""Beginnings of the reasons, and of the message, with which a kubelet refuses a pod that was bound to its node."""


@dataclass(frozen=True, slots=True)
class OnNode:
    """A pod that takes room on a node."""

    uid: str
    node: str
    amounts: tuple[tuple[str, int], ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """A pod that takes no room: deleted or finished. `refused` has the reason of a kubelet that did not admit it."""

    uid: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod without a node. `left` says why the lane leaves it to kube-scheduler, empty where it may take it.

    Pods without cards are left, too: kube-scheduler does not ask Kerf about them, but it has them in its queue.
    """

    uid: str
    namespace: str
    name: str
    scheduler: str
    priority: int
    created: str
    nominated: str
    left: str
    tried: bool
    """Whether kube-scheduler has refused it once."""
    held_back: bool
    """No scheduler takes it now: a gate holds it back, or it is being deleted."""
    labels: tuple[tuple[str, str], ...]
    amounts: tuple[tuple[str, int], ...]
    demands: Demands
    terms: tuple[Term, ...]

    @property
    def rank(self) -> tuple[int, str]:
        """Equal for pods of which neither comes first: more important ones, then older ones, by whole seconds."""
        return -self.priority, self.created

    @property
    def order(self) -> tuple[int, str, str, str, str]:
        """A total order that keeps rank."""
        return (*self.rank, self.namespace, self.name, self.uid)


Seen = OnNode | Gone | Pending


def see(kind: str, pod: Json, words: frozenset[str], ignored: frozenset[str]) -> Seen:
    """What one watch event says. `words` are the resources that ask for cards, `ignored` those that no node limits.

    Never raises: a pod that cannot be read fills its node, and without one it is not the lane's.
    """
    try:
        return _see(kind, pod, words, ignored)
    except (TypeError, ValueError, RecursionError):
        uid, node = text_at(pod, "metadata", "uid"), text_at(pod, "spec", "nodeName")
        return OnNode(uid, node, tuple(UNREADABLE.items()), ()) if node else Gone(uid)


def _see(kind: str, pod: Json, words: frozenset[str], ignored: frozenset[str]) -> Seen:
    meta, spec = at(pod, "metadata"), at(pod, "spec")
    uid, phase = str(meta.get("uid", "")), text_at(pod, "status", "phase")
    if kind == "DELETED" or phase in FINISHED:
        return Gone(uid, _refusal(pod) if phase == "Failed" else "")
    amounts = tuple(sorted((n, a) for n, a in requests_of(pod).items() if a and n not in ignored))
    node = spec.get("nodeName")
    if isinstance(node, str) and node:
        return OnNode(uid, node, amounts, terms_of(pod))
    return _pending(uid, pod, amounts, words)


def _pending(uid: str, pod: Json, amounts: tuple[tuple[str, int], ...], words: frozenset[str]) -> Pending:
    meta, spec = at(pod, "metadata"), at(pod, "spec")
    priority = spec.get("priority")
    cards = any(words & _asked(container).keys() for container in _containers(spec))
    return Pending(
        uid=uid,
        namespace=str(meta.get("namespace") or "default"),
        name=str(meta.get("name", "")),
        scheduler=str(spec.get("schedulerName") or ""),
        priority=priority if isinstance(priority, int) else 0,
        created=str(meta.get("creationTimestamp") or ""),
        nominated=text_at(pod, "status", "nominatedNodeName"),
        left=why_not(pod) if cards else NO_CARDS,
        tried=_was_tried(items_at(pod, "status", "conditions")),
        held_back=bool(spec.get("schedulingGates") or meta.get("deletionTimestamp")),
        labels=tuple(sorted((str(k), str(v)) for k, v in at(meta, "labels").items())),
        amounts=amounts,
        demands=demands_of(spec),
        terms=terms_of(pod),
    )


def _containers(spec: Json) -> Iterable[Json]:
    return (*items_at(spec, "initContainers"), *items_at(spec, "containers"))


def _asked(container: Json) -> Json:
    return {**at(container, "resources", "requests"), **at(container, "resources", "limits")}


def _was_tried(conditions: Iterable[Json]) -> bool:
    said = (each for each in conditions if each.get("type") == "PodScheduled" and each.get("status") == "False")
    return any(each.get("reason") in _TRIED for each in said)


def _refusal(pod: Json) -> str:
    reason, message = text_at(pod, "status", "reason"), text_at(pod, "status", "message")
    return reason if reason.startswith(_REFUSALS) or message.startswith(_REJECTED) else ""
