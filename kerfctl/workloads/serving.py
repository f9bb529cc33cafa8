"""Ray and KServe."""

from collections.abc import Callable, Iterable, Iterator

from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at
from kerfctl.workloads.replica import ENDED, SUSPENDED, Idle, NotRead, Replica, count_at, named, template_at

MAIN = "kserve-container"
_ISVC = "serving.kserve.io/inferenceservice"
_FRAMEWORKS = frozenset(
    {
        "model",
        "sklearn",
        "xgboost",
        "tensorflow",
        "pytorch",
        "triton",
        "onnx",
        "huggingface",
        "pmml",
        "lightgbm",
        "paddle",
    }
)
"""Fields of a predictor that stand for its main container."""
_NOT_POD = frozenset({*_FRAMEWORKS, "minReplicas", "maxReplicas", "workerSpec", "scaleTarget", "scaleMetric", "logger"})


def ray(*path: str) -> Callable[[Json], Iterable[Replica] | Idle]:
    """RayCluster, RayJob or RayService; `path` leads to the cluster's spec."""

    def read(item: Json) -> Iterable[Replica] | Idle:
        cluster, where = at(item, *path), ".".join(path)
        if True in (at(item, "spec").get("suspend"), cluster.get("suspend")):
            return SUSPENDED
        if at(item, "status").get("jobDeploymentStatus") in {"Complete", "Failed"}:
            return ENDED
        return _of_ray(named(item), cluster, where)

    return read


def _of_ray(name: str, cluster: Json, where: str) -> Iterator[Replica]:
    mine = {"ray.io/cluster": name}
    head = at(cluster, "headGroupSpec")
    if head:
        template = template_at(head, "template", f"{where}.headGroupSpec")
        yield Replica(f"{name}-head", template, {**mine, "ray.io/node-type": "head"})
    for i, group in enumerate(items_at(cluster, "workerGroupSpecs")):
        at_group, role = f"{where}.workerGroupSpecs[{i}]", str(group.get("groupName", i))
        template = template_at(group, "template", at_group)
        labels = {**mine, "ray.io/node-type": "worker", "ray.io/group": role}
        for pod in range(_ray_workers(group, at_group) * count_at(group, "numOfHosts", at_group)):
            yield Replica(f"{name}-{role}-worker-{pod}", template, labels)


def _ray_workers(group: Json, where: str) -> int:
    """KubeRay's own number: `replicas` within `minReplicas` and `maxReplicas`."""
    if group.get("suspend") is True:
        return 0
    least = count_at(group, "minReplicas", where, 0)
    wanted = count_at(group, "replicas", where, least)
    most = count_at(group, "maxReplicas", where, max(wanted, least))
    return min(max(wanted, least), most)


def inference_service(item: Json) -> Iterator[Replica]:
    """`minReplicas` pods of each component. What its ServingRuntime adds is not in the object and is left out."""
    spec, name = at(item, "spec"), named(item)
    if not at(spec, "predictor"):
        raise WireError("spec.predictor", spec.get("predictor"), "write a predictor")
    for role in ("predictor", "transformer", "explainer"):
        component = at(spec, role)
        if not component:
            continue
        if "workerSpec" in component:
            raise NotRead(f"the pods of spec.{role}.workerSpec are not counted")
        pod = {key: value for key, value in component.items() if key not in _NOT_POD}
        main: list[Json] = [{"name": MAIN, **at(component, key)} for key in _FRAMEWORKS if at(component, key)]
        containers = _merged(main, list(items_at(component, "containers")))
        template = {
            "metadata": {"annotations": at(item, "metadata", "annotations")},
            "spec": {**pod, "containers": containers},
        }
        for i in range(count_at(component, "minReplicas", f"spec.{role}")):
            yield Replica(f"{name}-{role}-{i}", template, {_ISVC: name, "component": role})


def _merged(main: list[Json], others: list[Json]) -> list[Json]:
    """KServe puts a container of the same name and the model's into one."""
    names = {container.get("name") for container in main}
    extra = {str(c.get("name")): c for c in others if c.get("name") in names}
    return [{**extra.get(str(c["name"]), {}), **c} for c in main] + [c for c in others if c.get("name") not in names]
