"""Every kind that `kerf` knows: what makes pods, what is read otherwise, and what has nothing to do with pods."""

from collections.abc import Callable, Iterable, Mapping

from kerf.wire.json import Json
from kerfctl.workloads.builtin import cron_job, job, replicated
from kerfctl.workloads.groups import job_set, leader_worker_set, training_job
from kerfctl.workloads.replica import Idle, Replica
from kerfctl.workloads.serving import inference_service, ray

DAEMON_SET = ("apps", "DaemonSet")
"""The one kind whose pods depend on the nodes."""
MAKERS: Mapping[tuple[str, str], Callable[[Json], Iterable[Replica] | Idle]] = {
    ("apps", "Deployment"): replicated,
    ("apps", "ReplicaSet"): replicated,
    ("apps", "StatefulSet"): replicated,
    ("", "ReplicationController"): replicated,
    ("batch", "Job"): job,
    ("batch", "CronJob"): cron_job,
    ("jobset.x-k8s.io", "JobSet"): job_set,
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): leader_worker_set,
    ("ray.io", "RayCluster"): ray("spec"),
    ("ray.io", "RayJob"): ray("spec", "rayClusterSpec"),
    ("ray.io", "RayService"): ray("spec", "rayClusterConfig"),
    ("serving.kserve.io", "InferenceService"): inference_service,
    **{
        ("kubeflow.org", kind): training_job
        for kind in ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")
    },
}
LABELS: Mapping[str, str] = {
    "jobset.sigs.k8s.io/jobset-name": "JobSet",
    "leaderworkerset.sigs.k8s.io/name": "LeaderWorkerSet",
    "ray.io/cluster": "RayCluster",
    "serving.kserve.io/inferenceservice": "InferenceService",
}
"""Labels by which pods name the workload that made them, where their owner is an object in between."""
_READ = frozenset(
    {
        ("", "Node"),
        ("", "Pod"),
        ("", "ResourceQuota"),
        ("kerf.dev", "TenantQuota"),
        ("resource.k8s.io", "ResourceClaim"),
        *(("kerf.dev", kind) for kind in ("Cluster", "FleetPlaces", "GatewayUsage", "TenantUsage")),
    }
)
_CORE = frozenset(
    {"Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "Namespace", "PersistentVolume"}
    | {"PersistentVolumeClaim", "PodTemplate", "Secret", "Service", "ServiceAccount"}
)
_APART = frozenset(
    {"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "cert-manager.io"}
    | {
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "resource.k8s.io",
    }
    | {"gateway.networking.k8s.io", "kueue.x-k8s.io", "monitoring.coreos.com", "networking.k8s.io", "policy"}
    | {"rbac.authorization.k8s.io", "scheduling.k8s.io", "scheduling.x-k8s.io", "storage.k8s.io"}
)
"""Groups of which no kind makes pods or changes what they ask for."""
_BARE = frozenset({"PodDisruptionBudget", "Workload", "ClusterQueue", "LocalQueue", "Cohort", "ResourceFlavor"})


def group_kind(item: Json) -> tuple[str, str]:
    """API group and kind. Where `apiVersion` is missing, the group of the kind of that name that kerf knows."""
    kind, version = str(item.get("kind", "?")), item.get("apiVersion")
    if isinstance(version, str) and version:
        return version.rpartition("/")[0], kind
    known = (key for key in (*MAKERS, DAEMON_SET, *_READ) if key[1] == kind)
    return next(known, ("policy" if kind in _BARE else "", kind))


def is_read(key: tuple[str, str]) -> bool:
    """Whether kerf reads the kind, or may leave it out without a wrong answer."""
    group, kind = key
    return key in MAKERS or key in _READ or key == DAEMON_SET or group in _APART or (group == "" and kind in _CORE)
