"""Gateway API's inference extension: an InferencePool for each model and namespace.

A pool selects pods by labels alone, so each pod that gets requests carries a label of its model, and a drained one
loses it. Where pods do not carry it (files, or a cluster without the controller), the labels that the model's replicas
have in common select, if no other pod has them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from kerf.gateways.objects import INFERENCE_POOL, Object, made
from kerf.gateways.plan import object_name
from kerf.values.gateways import Gateway, GatewaySettings, Plan, Route, Target
from kerf.wire.json import Json, at, text_at
from kerf.wire.objects import is_finished

LABEL = "pool.kerf.dev"
"""Prefix of the labels that Kerf gives to the pods of a pool: one label for each pool."""
_CHANGING = ("pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/", "apps.kubernetes.io/")


def render_pools(
    plan: Plan, settings: GatewaySettings, pods: Iterable[Json] | None
) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    """The pools, and a line for each model that has none.

    `pods` are all that labels may select; None where the replicas carry, or are about to, Kerf's label.
    """
    found, left_out = [], []
    everyone = _labels_of(pods or ())
    for route in plan.routes:
        for namespace, targets in sorted(_by_namespace(route).items()):
            if pods is None:
                selector = {pool_label(route, namespace): "true"}
            else:
                others = [labels for uid, labels in everyone[namespace].items() if uid not in route.served_by]
                selector = _common(targets, others)
            ports = sorted({target.port for target in targets})
            if not selector:
                why = "its replicas have no labels in common that other pods lack"
            elif len(ports) > 1:
                why = f"its replicas answer at different ports ({', '.join(map(str, ports))})"
            else:
                found.append(_pool(route, namespace, selector, ports, settings))
                continue
            left_out.append(f"{route.model}: no InferencePool in {namespace}: {why}")
    return tuple(found), tuple(left_out)


def pool_labels(plan: Plan) -> dict[str, frozenset[str]]:
    """The labels of Kerf that each pod should have, by uid."""
    found: dict[str, set[str]] = defaultdict(set)
    for route in plan.routes:
        for target in route.targets:
            for uid in target.uids:
                found[uid].add(pool_label(route, target.namespace))
    return {uid: frozenset(labels) for uid, labels in found.items()}


def pool_label(route: Route, namespace: str) -> str:
    """The label of one pool."""
    return f"{LABEL}/{object_name(route.model, namespace)}"


def _by_namespace(route: Route) -> dict[str, list[Target]]:
    found: dict[str, list[Target]] = defaultdict(list)
    for target in route.targets:
        found[target.namespace].append(target)
    return found


def _labels_of(pods: Iterable[Json]) -> dict[str, dict[str, Json]]:
    """The labels of pods that have not ended, by namespace and uid."""
    found: dict[str, dict[str, Json]] = defaultdict(dict)
    for pod in pods:
        if not is_finished(pod):
            meta = at(pod, "metadata")
            found[text_at(meta, "namespace") or "default"][text_at(meta, "uid")] = at(meta, "labels")
    return found


def _common(targets: Sequence[Target], others: Iterable[Json]) -> dict[str, str]:
    """Labels that all these have; none where another pod beside them has them too."""
    first, *more = ({pair for pair in target.selector if _is_stable(pair[0])} for target in targets)
    common = dict(sorted(first.intersection(*more)))
    return {} if any(common.items() <= labels.items() for labels in others) else common


def _is_stable(key: str) -> bool:
    return not key.startswith((*_CHANGING, f"{LABEL}/"))


def _pool(
    route: Route, namespace: str, selector: dict[str, str], ports: Iterable[int], settings: GatewaySettings
) -> Object:
    service, _, port = settings.picker.rpartition(":")
    spec = {
        "selector": {"matchLabels": selector},
        "targetPorts": [{"number": number} for number in ports],
        "endpointPickerRef": {"name": service, "port": {"number": int(port)}},
    }
    where = (namespace, object_name(route.model, namespace))
    return made(INFERENCE_POOL, Gateway.POOL, where, route.model, spec=spec)
