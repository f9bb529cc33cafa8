"""A pod for a model: what `kerf model render` prints. Resources per card, arguments for the slice, patient probes."""

from dataclasses import dataclass
from typing import Any

from kerf.sizing.cards import LARGEST_MIB, card_named
from kerf.sizing.estimate import Estimate
from kerf.sizing.fetch import Fetch, init_container
from kerf.sizing.request import SGLANG
from kerf.wire.errors import WireError
from kerf.wire.subject import SERVES

Json = dict[str, Any]
PORTS = {"vllm": 8000, "sglang": 30000}
IMAGES = {"vllm": "vllm/vllm-openai:v{version}", "sglang": "lmsysorg/sglang:v{version}"}
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where NCCL and the ranks of one pod look
LOAD_MB_S = 100
"""Weights are read at least this fast: a slow network volume."""
WARM_UP_S = 900
"""Compiling and capturing graphs on a share of a card."""
PERIOD_S = 10
LEADER = "leaderworkerset.sigs.k8s.io/worker-index"
"""The label of a pod's number in its group; the leader's is 0."""
LARGEST_NODE = 8
"""Cards of one node; more than that is a LeaderWorkerSet of one pod per pipeline stage."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the pod goes and what it serves."""

    name: str
    weights: str
    namespace: str = "default"
    image: str = ""
    replicas: int = 1
    claim: str = ""
    """A PersistentVolumeClaim that holds the weights, mounted at /models."""
    cache: str = ""
    """A folder of the node that holds the weights of several pods, mounted at /models."""
    fetch: Fetch | None = None
    """Where an init container gets the weights; None: they are in the volume, or the engine fetches them."""

    serves: str = ""
    """The model's name in the catalogue, by which the cluster learns what its servers hold."""

    @property
    def volume(self) -> Json | None:
        """The volume with the weights; None where the engine keeps them for itself."""
        if self.claim:
            source: Json = {"persistentVolumeClaim": {"claimName": self.claim}}
            if self.fetch is None:
                source["persistentVolumeClaim"]["readOnly"] = True
        elif self.cache:
            source = {"hostPath": {"path": self.cache, "type": "DirectoryOrCreate"}}
        elif self.fetch:
            source = {"emptyDir": {}}
        else:
            return None
        return {"name": "models", **source}


def workload(found: Estimate, wanted: Wanted) -> Json:
    """A Deployment, or a LeaderWorkerSet where one node's cards are not enough. Raises WireError."""
    if found.ranks.tp > LARGEST_NODE:
        fix = f"use at most {LARGEST_NODE}, the cards of one node, and --pp for more"
        raise WireError("tp", found.ranks.tp, fix)
    if found.slice_mib > LARGEST_MIB and not found.ask.card and found.ask.card_mib is None:
        fix = f"the largest card that is known has {LARGEST_MIB:,} MiB: name the card, or write --tp"
        raise WireError("slice", f"{found.slice_mib:,} MiB", fix)
    labels = _labels(wanted)
    meta = {"name": wanted.name, "namespace": wanted.namespace, "labels": labels}
    if found.ranks.cards <= LARGEST_NODE:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": wanted.replicas,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "template": _template(found, wanted, labels, ()),
            },
        }
    leader = _template(found, wanted, labels, _group_args(found, "0"))
    worker = _template(found, wanted, labels, _group_args(found, "$(LWS_WORKER_INDEX)", worker=True), probes=False)
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": meta,
        "spec": {
            "replicas": wanted.replicas,
            "leaderWorkerTemplate": {
                "size": found.ranks.pp,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": worker,
            },
        },
    }


def _template(found: Estimate, wanted: Wanted, labels: Json, more: tuple[str, ...], *, probes: bool = True) -> Json:
    port = PORTS[found.ask.runtime]
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}
    if wanted.serves:
        annotations[SERVES] = wanted.serves
    if found.ask.card:
        annotations["nvidia.com/use-gputype"] = card_named(
            found.ask.card
        ).selection  # ranks of one model run at the slowest card's pace
    volumes: list[Json] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shm(found)}}]
    if wanted.volume:
        volumes.append(wanted.volume)
    spec: Json = {"containers": [_container(found, wanted, more, probes=probes)], "volumes": volumes}
    if wanted.fetch:
        spec["initContainers"] = [init_container(wanted.fetch, wanted.name, _image(found, wanted))]
    return {"metadata": {"labels": dict(labels), "annotations": annotations}, "spec": spec}


def service(wanted: Wanted, found: Estimate) -> Json:
    """The Service by which others reach the servers: of groups the leaders, who alone listen."""
    labels, runtime = _labels(wanted), found.ask.runtime
    leaders = {LEADER: "0"} if found.ranks.cards > LARGEST_NODE else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": labels},
        "spec": {
            "selector": {**labels, **leaders},
            "ports": [{"name": "http", "port": PORTS[runtime], "targetPort": "http"}],
        },
    }


def _labels(wanted: Wanted) -> Json:
    return {"app.kubernetes.io/name": wanted.name, "app.kubernetes.io/component": "model-server"}


def _image(found: Estimate, wanted: Wanted) -> str:
    return wanted.image or IMAGES[found.ask.runtime].format(version=found.ask.version)


def _container(found: Estimate, wanted: Wanted, more: tuple[str, ...], *, probes: bool) -> Json:
    runtime, port = found.ask.runtime, PORTS[found.ask.runtime]
    mounts: list[Json] = [{"name": "shm", "mountPath": SHARED_MEMORY}]
    if wanted.volume:
        mounts.append({"name": "models", "mountPath": "/models", "readOnly": True})
    command = ["python3", "-m", "sglang.launch_server"] if runtime == SGLANG else ["vllm", "serve"]
    model = ["--model-path", wanted.weights] if runtime == SGLANG else [wanted.weights]
    host = ["--host", "0.0.0.0"] if runtime == SGLANG else []  # noqa: S104 - a pod's own network
    container: Json = {
        "name": "server",
        "image": _image(found, wanted),
        "command": command,
        "args": [*model, "--served-model-name", wanted.name, *host, "--port", str(port), *found.args, *more],
        "ports": [{"name": "http", "containerPort": port}],
        "resources": {"limits": resources(found)},
        "volumeMounts": mounts,
    }
    return {**container, **_probes(found)} if probes else container


def resources(found: Estimate) -> Json:
    """What the webhook and the scheduler read: cards, MiB of each, percent of each card's SMs."""
    per_pod = found.ranks.cards if found.ranks.cards <= LARGEST_NODE else found.ranks.tp
    limits: Json = {"nvidia.com/gpu": per_pod, "nvidia.com/gpumem": found.slice_mib}
    if found.cores:
        limits["nvidia.com/gpucores"] = found.cores
    return limits


def _probes(found: Estimate) -> Json:
    """Loading takes minutes, so a startup probe waits; /health alone says little, so liveness is slow to judge."""
    health = {"httpGet": {"path": "/health", "port": "http"}}
    seconds = WARM_UP_S + found.weights_bytes * found.ranks.cards // (LOAD_MB_S * 10**6)
    return {
        "startupProbe": {**health, "periodSeconds": PERIOD_S, "failureThreshold": -(-seconds // PERIOD_S)},
        "readinessProbe": {**health, "periodSeconds": PERIOD_S, "timeoutSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": PERIOD_S, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _shm(found: Estimate) -> str:
    """Shared memory for the ranks of one pod."""
    return f"{2 * max(1, min(found.ranks.cards, LARGEST_NODE))}Gi"


def _group_args(found: Estimate, rank: str, *, worker: bool = False) -> tuple[str, ...]:
    """How the pods of a group find each other."""
    size = str(found.ranks.pp)
    if found.ask.runtime == SGLANG:
        return ("--nnodes", size, "--node-rank", rank, "--dist-init-addr", "$(LWS_LEADER_ADDRESS):5000")
    args = ("--nnodes", size, "--node-rank", rank, "--master-addr", "$(LWS_LEADER_ADDRESS)")
    return (*args, "--headless") if worker else args
