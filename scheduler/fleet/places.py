"""The cards that a plan has for a workload's replicas, and how a cluster's own scheduler gets to know them. Pure.

A cluster places pods one by one as they come, so by itself it may open more cards than the plan. The places are wishes:
whatever else takes such a card meanwhile has it, and the pod goes where any other pod would.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from kerf.values.fleet import Assigned, FleetWorkload, PlannedPlace
from kerf.values.vendor import ResourceNames
from kerf.wire.fleet import condition
from kerf.wire.fleet_places import FLEET_PLACES, render_places
from kerf.wire.json import Json, at, items_at
from scheduler.fleet.neighbours import preferences, rules_of_clusters
from scheduler.fleet.render import labels_of, object_name
from scheduler.fleet.shapes import Shapes
from scheduler.fleet.view import View
from scheduler.solver.fleet.problem import FleetPlan
from scheduler.solver.fleet.seats import seats

CONDITION = "AsPlanned"
WEIGHED = ("cpu", "memory")
Planned = Mapping[tuple[str, str], tuple[PlannedPlace, ...]]
"""Places by cluster and model of cards."""


def places_of(plan: FleetPlan, made: Shapes | None) -> dict[str, Planned]:
    """The places of a plan by workload."""
    if made is None:
        return {}
    models = {  # nodes of two clusters may have one name, and so may cards that are called by their nodes
        (cluster, node, card): made.model(space.kind)
        for (cluster, space), named in made.nodes.items()
        for node, ids in named
        for card in ids
    }
    found: dict[str, dict[tuple[str, str], Counter[tuple[str, tuple[str, ...]]]]] = defaultdict(dict)
    for workload, cluster, node, cards in seats(plan, made.nodes):
        found[workload].setdefault((cluster, models[cluster, node, cards[0]]), Counter())[node, cards] += 1
    return {
        workload: {where: tuple(PlannedPlace(*key, n) for key, n in sorted(each.items())) for where, each in by.items()}
        for workload, by in found.items()
    }


def follows_plan(one: FleetWorkload) -> bool:
    """Whether its pods may be put onto cards that a plan has chosen: not where Kubernetes' allocator chooses them."""
    return not one.devices


def as_planned(one: FleetWorkload, names: Sequence[ResourceNames]) -> dict[str, Any]:
    """The condition that says how far a workload's pods get the cards of the plan. `names` are the words of cards."""
    prefers, rules, needs = preferences(one), rules_of_clusters(one), _needs(one, names)
    if not follows_plan(one):
        says = "Kubernetes' allocator chooses the devices of claims, so the pods may open more cards than the plan"
        return condition(CONDITION, False, "Claims", says)
    if rules or needs:
        unweighed = " and ".join((*rules, *needs))
        says = f"the plan does not weigh {unweighed}: a pod that may not have its planned cards gets others"
        return condition(CONDITION, False, "Neighbours" if rules else "Needs", says)
    if prefers:
        says = f"{' and '.join(prefers)} come first, so the pods may open more cards than the plan"
        return condition(CONDITION, False, "Preferences", says)
    return condition(CONDITION, True, "Listed", "the clusters give the pods the cards that the plan has for them")


def _needs(one: FleetWorkload, names: Sequence[ResourceNames]) -> tuple[str, ...]:
    """What its pods need of a node beside cards, CPU and memory: no plan counts that."""
    ours = {*WEIGHED, *(word for each in names for word in (*each.all, *each.quota))}
    spec = at(one.template, "spec")
    asked = {
        str(name)
        for container in (*items_at(spec, "containers"), *items_at(spec, "initContainers"))
        for part in ("limits", "requests")
        for name in at(container, "resources", part)
    }
    volumes = (
        f"the claim of volume {each.get('name')}"
        for each in items_at(spec, "volumes")
        if each.get("persistentVolumeClaim") or each.get("ephemeral")
    )
    return (*sorted(asked - ours), *volumes)


def listed(one: FleetWorkload, part: Assigned, fleet: str, view: View, planned: Planned) -> tuple[str, dict[str, Any]]:
    """The object that lists a part's places, and its path: where its pods are, and where the rest should go."""
    pods = [pod for pod in view.pods if (pod.workload, pod.model, pod.epoch) == (one.key, part.model, part.epoch)]
    held = [(pod.node, tuple(sorted(set(pod.cards)))) for pod in pods if pod.node and pod.cards and not pod.leaving]
    total = Counter(held)
    for place in planned.get((part.cluster, part.model), ()):
        total[place.node, place.cards] += place.pods
    places = tuple(PlannedPlace(*key, n) for key, n in sorted(total.items()))
    meta = {
        "name": object_name(one, part),
        "namespace": one.namespace,
        "labels": labels_of(fleet, one.key, part),
    }
    root, _, plural = FLEET_PLACES.rpartition("/")
    body = render_places(meta, part.replicas, places, after_preferences=bool(preferences(one)))
    return f"{root}/namespaces/{one.namespace}/{plural}/{meta['name']}", body


def outdated(there: Mapping[str, Json], wanted: Mapping[str, Json]) -> bool:
    """Whether the plan has changed since a cluster's places were listed: some part has another number of replicas.

    Until then the lists stay as they are, whatever a later plan would do with the same replicas, so that pods that are
    on their way and those that follow go by one plan.
    """
    return any(
        path not in there or at(there[path], "spec").get("replicas") != at(body, "spec").get("replicas")
        for path, body in wanted.items()
    )
