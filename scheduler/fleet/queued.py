"""Workloads that go through MultiKueue: which clusters their queues reach, and what is written on the manager cluster.

The manager writes ordinary objects with Kueue's queue name beside itself. Kueue holds them to the quota there, Kerf's
dispatcher nominates the cluster that the plan chose, and MultiKueue makes the pods in it.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kerf.kube.client import Kube
from kerf.kube.errors import Forbidden, KubeError, NotFound
from kerf.values.fleet import Assigned, FleetWorkload
from kerf.values.node import Node
from kerf.values.vendor import ResourceNames
from kerf.wire.classes import class_label, selected_classes
from kerf.wire.json import Json, at, items_at
from kerf.wire.kueue import ROOT
from kerf.wire.multikueue import CONTROLLER
from scheduler.fleet.handover import LISTS, hand_over, owned
from scheduler.fleet.render import REFUSED, render
from scheduler.fleet.view import View

_LOG = logging.getLogger("kerf.fleet")
_KINDS = ("localqueues", "clusterqueues", "admissionchecks", "multikueueconfigs")


@dataclass(frozen=True, slots=True)
class Queues:
    """What the manager cluster's Kueue has. `problem` says why that could not be read."""

    local: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The ClusterQueue of each LocalQueue, by namespace and name."""
    checks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The AdmissionChecks of each ClusterQueue."""
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The clusters of each AdmissionCheck that MultiKueue answers."""
    problem: str = ""


def parse_queues(lists: Mapping[str, Sequence[Json]]) -> Queues:
    """Kueue's objects, by the plural of their kind."""
    configs = {_name(each): _texts(at(each, "spec").get("clusters")) for each in lists["multikueueconfigs"]}
    return Queues(
        {
            (str(each["metadata"].get("namespace")), _name(each)): str(at(each, "spec").get("clusterQueue"))
            for each in lists["localqueues"]
        },
        {
            _name(each): tuple(
                str(check.get("name")) for check in items_at(each, "spec", "admissionChecksStrategy", "admissionChecks")
            )
            for each in lists["clusterqueues"]
        },
        {
            _name(each): configs.get(str(at(each, "spec", "parameters").get("name")), ())
            for each in lists["admissionchecks"]
            if at(each, "spec").get("controllerName") == CONTROLLER
        },
    )


def bounded(one: FleetWorkload, queues: Queues) -> FleetWorkload | str:
    """The workload, with the clusters that its queue reaches as the only ones allowed; or why there is none."""
    if queues.problem:
        return queues.problem
    name = queues.local.get((one.namespace, one.queue))
    if name is None:
        return f"spec.queue: the manager cluster has no LocalQueue {one.namespace}/{one.queue}"
    checks = [check for check in queues.checks.get(name, ()) if check in queues.clusters]
    if not checks:
        return f"spec.queue: ClusterQueue {name} has no admission check of {CONTROLLER}"
    reached = queues.clusters[checks[0]]
    allowed = tuple(each for each in reached if not one.clusters or each in one.clusters)
    if not allowed:
        listed = f"; spec.clusters has {', '.join(one.clusters)}" if reached else ""
        return f"spec.queue: ClusterQueue {name} reaches {', '.join(reached) or 'no cluster'}{listed}"
    return replace(one, clusters=allowed)


def other_classes(views: Sequence[View], view: View, model: str) -> tuple[str, ...]:
    """Labels of classes, of all clusters, that no node with cards of a model has in one cluster.

    Kueue reserves quota of the first class whose label the pods do not refuse. Nothing is refused where the nodes of
    that model have no label: their Kerf writes none, and quota is not by class.
    """
    mine: set[str] = set()
    with_model = {state.name for state in view.states if any(each.card.model == model for each in state.cards)}
    for node in view.nodes:
        if node.name in with_model:
            mine |= _class_labels(node)
    everywhere = {label for each in views for node in each.nodes for label in _class_labels(node)}
    return tuple(sorted(everywhere - mine)) if mine else ()


def _class_labels(node: Node) -> set[str]:
    return {class_label(slug) for slug in selected_classes(dict(node.labels))}


class QueuedWorkloads:
    """The shell: reads Kueue's objects, writes the workloads' objects. Both only where a workload names a queue."""

    def __init__(self, kube: Kube, fleet: str, names: tuple[ResourceNames, ...]) -> None:
        self._kube = kube
        self._fleet = fleet
        self._names = names
        self._may_be_there = True

    def queues(self) -> Queues | None:
        """What Kueue has; None where its API server does not answer now."""
        try:
            return parse_queues({kind: self._kube.list(f"{ROOT}/{kind}")[0] for kind in _KINDS})
        except NotFound:
            return Queues(
                problem="spec.queue: the manager cluster serves no Kueue of v1beta2: install Kueue 0.16 or newer"
            )
        except Forbidden as error:
            fix = "set the chart's quota.kueue.multikueue.enabled"
            return Queues(problem=f"spec.queue: the manager may not read Kueue's objects ({error}): {fix}")
        except KubeError as error:
            _LOG.warning("Kueue's objects: %s", error)
            return None

    def run_once(
        self,
        decided: Iterable[tuple[FleetWorkload, tuple[Assigned, ...]]],
        views: Sequence[View],
        spared: Collection[str],
    ) -> None:
        """Write the parts of queued workloads, and remove what is not wanted any more."""
        usable = {view.name: view for view in views if view.record.usable}
        parts = [
            (one, part, usable[part.cluster])
            for one, parts in decided
            for part in (parts if one.queue else ())
            if part.cluster in usable and part.epoch == usable[part.cluster].record.epoch
        ]
        if not parts and not self._may_be_there:
            return
        wanted: dict[str, Json] = {}
        try:
            there = dict(owned(self._kube, self._fleet, lists=LISTS)) if parts else {}
            for one, part, view in parts:
                wanted |= self._objects(one, part, there, other_classes(views, view, part.model))
            hand_over(self._kube, self._fleet, wanted, spared, queued=True)
            self._may_be_there = bool(wanted or spared)
        except Forbidden as error:
            if parts:
                _LOG.warning("what goes through MultiKueue: %s", error)
            self._may_be_there = bool(parts)
        except KubeError as error:
            _LOG.warning("what goes through MultiKueue: %s", error)

    def _objects(
        self, one: FleetWorkload, part: Assigned, there: Mapping[str, Json], refused: tuple[str, ...]
    ) -> Mapping[str, Json]:
        """A part's objects. Those that exist keep the classes that they refuse: a new class rolls no pods."""
        plain = render(one, part, self._fleet, self._names)
        before = next((there[path] for path in plain if path in there), None)
        if before is not None:
            refused = tuple(
                each for each in str(at(before, "metadata", "annotations").get(REFUSED, "")).split(",") if each
            )
        return render(one, part, self._fleet, self._names, refused)


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
