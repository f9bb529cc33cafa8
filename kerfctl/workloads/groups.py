"""Workloads of several parts: JobSet, LeaderWorkerSet, Kubeflow's training jobs."""

from collections.abc import Iterable, Iterator

from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at
from kerfctl.workloads.builtin import at_once
from kerfctl.workloads.replica import ENDED, SUSPENDED, Idle, Replica, count_at, has_ended, named, template_at

_JOBSET, _LWS, _TRAINING = "jobset.sigs.k8s.io", "leaderworkerset.sigs.k8s.io", "training.kubeflow.org"


def job_set(item: Json) -> Iterable[Replica] | Idle:
    """Every pod of every Job of every replicated job."""
    spec = at(item, "spec")
    if has_ended(item):
        return ENDED
    return SUSPENDED if spec.get("suspend") is True else _of_job_set(named(item), spec)


def _of_job_set(name: str, spec: Json) -> Iterator[Replica]:
    for i, part in enumerate(items_at(spec, "replicatedJobs")):
        where, kind = f"spec.replicatedJobs[{i}]", str(part.get("name", i))
        job = at(part, "template", "spec")
        template = template_at(job, "template", f"{where}.template.spec")
        pods = at_once(job, {}, f"{where}.template.spec")
        for number in range(count_at(part, "replicas", where)):
            labels = {
                f"{_JOBSET}/jobset-name": name,
                f"{_JOBSET}/replicatedjob-name": kind,
                f"{_JOBSET}/job-index": str(number),
            }
            for pod in range(pods):
                yield Replica(f"{name}-{kind}-{number}-{pod}", template, labels)


def leader_worker_set(item: Json) -> Iterator[Replica]:
    """`replicas` groups of `size` pods, of which the first leads."""
    spec, where = at(item, "spec"), "spec.leaderWorkerTemplate"
    parts, name = at(spec, "leaderWorkerTemplate"), named(item)
    worker = template_at(parts, "workerTemplate", where)
    leader = template_at(parts, "leaderTemplate", where) if parts.get("leaderTemplate") is not None else worker
    size = count_at(parts, "size", where)
    note = {f"{_LWS}/size": str(size)}
    for group in range(count_at(spec, "replicas", "spec")):
        for i in range(size):
            labels = {f"{_LWS}/name": name, f"{_LWS}/group-index": str(group), f"{_LWS}/worker-index": str(i)}
            pod = f"{name}-{group}" if i == 0 else f"{name}-{group}-{i}"
            yield Replica(pod, worker if i else leader, {**labels, f"{_LWS}/group-key": f"{name}-{group}"}, note)


def training_job(item: Json) -> Iterable[Replica] | Idle:
    """PyTorchJob, TFJob, MPIJob and the like: `pytorchReplicaSpecs` and so on, by kind of replica."""
    spec = at(item, "spec")
    if at(spec, "runPolicy").get("suspend") is True:
        return SUSPENDED
    if has_ended(item):
        return ENDED
    key = next((key for key in spec if str(key).endswith("ReplicaSpecs")), "")
    if not key:
        raise WireError("spec", spec, "write the replicas, such as spec.pytorchReplicaSpecs")
    return _of_training_job(named(item), at(spec, key), f"spec.{key}")


def _of_training_job(name: str, parts: Json, where: str) -> Iterator[Replica]:
    for kind, part in parts.items():
        template = template_at(at(part), "template", f"{where}.{kind}")
        for i in range(count_at(at(part), "replicas", f"{where}.{kind}")):
            role = str(kind).lower()
            labels = {f"{_TRAINING}/job-name": name, f"{_TRAINING}/replica-type": role}
            yield Replica(f"{name}-{role}-{i}", template, {**labels, f"{_TRAINING}/replica-index": str(i)})
