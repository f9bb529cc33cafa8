"""What pods and templates say of the pods beside them: what a plan weighs of it, and what is left to clusters. Pure.

kube-scheduler honours every rule before it asks Kerf, so a place of a plan never breaks one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kerf.values.fleet import FleetWorkload
from kerf.wire.fleet import LABEL_MANAGER, LABEL_WORKLOAD, slug
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import is_finished
from scheduler.core.neighbours import Term, read_term

HOSTNAME = "kubernetes.io/hostname"
TEMPLATE_HASH = "pod-template-hash"
"""A label that a Deployment's controller adds: no other workload's pods have its value."""
_REQUIRED, _PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
_EVERY = "0.0.0.0"  # noqa: S104 (what pods say)
Port = tuple[str, str, int]
"""Protocol, address and port of a node; no address is every one."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What of a pod keeps others off its node: required anti-affinity by hostname, and ports of the node."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    shuns: tuple[Term, ...] = ()
    ports: tuple[Port, ...] = ()

    @property
    def has_rules(self) -> bool:
        """Whether it says itself what may not be beside it."""
        return bool(self.shuns or self.ports)

    @property
    def fleets_workload(self) -> str:
        """The mark of the workload for which a fleet's hand-over made it; empty for others."""
        labels = dict(self.labels)
        return labels.get(LABEL_WORKLOAD, "") if LABEL_MANAGER in labels else ""

    def bars(self, other: "Neighbour") -> bool:
        """Whether a node takes only one of the two."""
        return _shun(self, other) or _shun(other, self) or any(_clash(a, b) for a in self.ports for b in other.ports)


def _shun(one: Neighbour, other: Neighbour) -> bool:
    return bool(one.shuns) and any(term.looks_at(other.namespace, dict(other.labels)) for term in one.shuns)


def _clash(a: Port, b: Port) -> bool:
    return (a[0], a[2]) == (b[0], b[2]) and (a[1] == b[1] or not a[1] or not b[1])


def neighbour_of(pod: Json) -> Neighbour:
    """A pod as those beside it see it."""
    namespace, labels = text_at(pod, "metadata", "namespace") or "default", _labels(pod)
    return Neighbour(namespace, tuple(sorted(labels.items())), tuple(_terms(pod, namespace, labels)), _ports(pod))


def pods_of(one: FleetWorkload) -> Neighbour:
    """A workload's pods as those beside them see them."""
    labels = _labels(one.template) | {LABEL_WORKLOAD: slug(one.key)}
    shuns = tuple(_terms(one.template, one.namespace, labels))
    return Neighbour(one.namespace, tuple(sorted(labels.items())), shuns, _ports(one.template))


class Neighbourhood:
    """The pods on a cluster's nodes, equal ones together, kept by their events."""

    def __init__(self) -> None:
        self._nodes: dict[Neighbour, dict[str, str]] = {}
        """By uid, or by name in files without uids."""
        self._of: dict[str, Neighbour] = {}

    def replace(self, pods: Iterable[Json]) -> None:
        """The whole list of pods."""
        self._nodes, self._of = {}, {}
        for pod in pods:
            self.change("ADDED", pod)

    def change(self, kind: str, pod: Json) -> None:
        """One event of a pod."""
        meta, node = at(pod, "metadata"), text_at(pod, "spec", "nodeName")
        who = str(meta.get("uid") or f"{meta.get('namespace')}/{meta.get('name')}")
        before = self._of.pop(who, None)
        if before is not None:
            del self._nodes[before][who]
            if not self._nodes[before]:
                del self._nodes[before]
        if kind != "DELETED" and node and not is_finished(pod):
            found = neighbour_of(pod)
            self._nodes.setdefault(found, {})[who] = node
            self._of[who] = found

    def seen(self) -> dict[Neighbour, frozenset[str]]:
        """The nodes of each."""
        return {each: frozenset(nodes.values()) for each, nodes in self._nodes.items()}


def apart(workloads: Sequence[FleetWorkload]) -> dict[str, tuple[str, ...]]:
    """By workload, those of which no pod may be beside one of its own; itself, where a node takes one."""
    seen = [(one.key, pods_of(one)) for one in workloads]
    found: dict[str, set[str]] = defaultdict(set)
    for name, each in seen:
        for other, beside in seen if each.has_rules else ():
            if each.bars(beside):
                found[name].add(other)
                found[other].add(name)
    return {name: tuple(sorted(others)) for name, others in found.items()}


def barred(
    neighbours: Mapping[Neighbour, Iterable[str]], workloads: Sequence[FleetWorkload], *, own_stays: bool
) -> dict[str, tuple[str, ...]]:
    """By node, the workloads of which pods there let no pod in. Unless `own_stays`, their own pods count as gone."""
    seen = [(one.key, pods_of(one)) for one in workloads]
    gone = frozenset[str]() if own_stays else frozenset(slug(one.key) for one in workloads)
    found: dict[str, set[str]] = defaultdict(set)
    ruled = [pair for pair in seen if pair[1].has_rules]
    for each, nodes in neighbours.items():
        if each.fleets_workload not in gone:
            names = [name for name, pods in (seen if each.has_rules else ruled) if each.bars(pods)]
            for node in nodes if names else ():
                found[node].update(names)
    return {node: tuple(sorted(names)) for node, names in found.items()}


def preferences(one: FleetWorkload) -> tuple[str, ...]:
    """The fields by which its pods prefer nodes; each cluster weighs them before the places of a plan."""
    affinity = at(one.template, "spec", "affinity")
    found = [f"{kind}.{_PREFERRED}" for kind in sorted(affinity) if at(affinity, kind).get(_PREFERRED)]
    return (*found, *_spread(one, soft=True))


def rules_of_clusters(one: FleetWorkload) -> tuple[str, ...]:
    """The fields with rules about neighbours that no plan weighs; only a cluster knows whether a pod keeps them."""
    affinity = at(one.template, "spec", "affinity")
    found = ["podAffinity"] if items_at(affinity, "podAffinity", _REQUIRED) else []
    if not all(_read(term, one.namespace, {}) for term in items_at(affinity, "podAntiAffinity", _REQUIRED)):
        found.append("podAntiAffinity")
    return (*found, *_spread(one, soft=False))


def _spread(one: FleetWorkload, *, soft: bool) -> Iterator[str]:
    for each in items_at(one.template, "spec", "topologySpreadConstraints"):
        if (each.get("whenUnsatisfiable") == "ScheduleAnyway") is soft:
            yield f"topologySpreadConstraints of {each.get('topologyKey')}"


def _labels(item: Json) -> dict[str, str]:
    return {str(key): str(value) for key, value in at(item, "metadata", "labels").items()}


def _terms(item: Json, namespace: str, labels: Mapping[str, str]) -> Iterator[Term]:
    for term in items_at(item, "spec", "affinity", "podAntiAffinity", _REQUIRED):
        found = _read(term, namespace, labels)
        if found is not None:
            yield found


def _read(term: Json, namespace: str, labels: Mapping[str, str]) -> Term | None:
    """The pods that a term keeps off a node; None where it is not about nodes, or what it takes is not known here."""
    anywhere, selector = term.get("namespaceSelector"), term.get("labelSelector")
    if term.get("topologyKey") != HOSTNAME or not isinstance(selector, dict) or anywhere not in (None, {}):
        return None
    found = read_term(term, namespace)
    if term.get("mismatchLabelKeys") or any(operator not in _OPERATORS for _, operator, _ in found.rules):
        return None
    keys = term.get("matchLabelKeys")
    own = {key: labels[key] for key in (keys if isinstance(keys, list) else ()) if key in labels}
    if isinstance(keys, list) and TEMPLATE_HASH in keys and TEMPLATE_HASH not in labels:
        own[LABEL_WORKLOAD] = labels.get(LABEL_WORKLOAD, "")
    return Term(found.namespaces, (*found.rules, *((key, "In", (value,)) for key, value in own.items())))


def _ports(item: Json) -> tuple[Port, ...]:
    """The ports of the node that a pod takes; with the host's network all of its own."""
    spec = at(item, "spec")
    host = spec.get("hostNetwork") is True
    stay = [each for each in items_at(spec, "initContainers") if each.get("restartPolicy") == "Always"]
    found = set[Port]()
    for container in (*items_at(spec, "containers"), *stay):
        for port in items_at(container, "ports"):
            number = port.get("hostPort") or (port.get("containerPort") if host else None)
            if isinstance(number, int):
                address = str(port.get("hostIP") or "")
                found.add((str(port.get("protocol") or "TCP"), "" if address == _EVERY else address, number))
    return tuple(sorted(found))
