"""What `kerf model render` prints is a pod that Kerf reads as the same slice."""

import pytest

from kerf.sizing.estimate import estimate
from kerf.sizing.manifest import Wanted, service, workload
from kerf.sizing.request import Ask
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES as VENDORS
from kerf.wire.errors import WireError
from kerf.wire.resources import parse_pod
from tests.kerf.sizing.models import NAMES, model


def rendered(name, ask, **wanted):
    found = estimate(model(name), ask)
    return found, workload(found, Wanted(name.replace(".", "-"), f"/models/{name}", **wanted))


def templates(work):
    spec = work["spec"]
    if work["kind"] == "Deployment":
        return [spec["template"]]
    return [spec["leaderWorkerTemplate"][key] for key in ("leaderTemplate", "workerTemplate")]


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
@pytest.mark.parametrize("name", NAMES)
def test_the_rendered_pod_asks_for_the_estimated_slice(name, runtime):
    found, work = rendered(name, Ask(runtime=runtime, max_len=448, card="B200"))

    (template,) = templates(work)
    (ask,) = parse_pod({"metadata": {"name": "p"}, "spec": template["spec"]}, VENDORS, Defaults()).containers
    assert (ask.cards, ask.memory_mib, ask.cores) == (found.ranks.cards, found.slice_mib, found.cores)


def test_a_deployment_is_whole():
    found, work = rendered(
        "qwen3-8b", Ask(max_len=32_768, concurrency=8, card="H100"), namespace="chat", claim="weights"
    )

    assert work == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "qwen3-8b", "namespace": "chat", "labels": LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": LABELS,
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": "8000",
                        "prometheus.io/path": "/metrics",
                        "nvidia.com/use-gputype": "NVIDIA H100 80GB HBM3",
                    },
                },
                "spec": {
                    "containers": [
                        {
                            "name": "server",
                            "image": "vllm/vllm-openai:v0.33.0",
                            "command": ["vllm", "serve"],
                            "args": [
                                "/models/qwen3-8b",
                                "--served-model-name",
                                "qwen3-8b",
                                "--port",
                                "8000",
                                *found.args,
                            ],
                            "ports": [{"name": "http", "containerPort": 8000}],
                            "resources": {
                                "limits": {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 54_144, "nvidia.com/gpucores": 70}
                            },
                            "volumeMounts": [
                                {"name": "shm", "mountPath": "/dev/shm"},
                                {"name": "models", "mountPath": "/models", "readOnly": True},
                            ],
                            # 900 s of warming up, and 16,381 MB at 100 MB/s.
                            "startupProbe": {**HEALTH, "failureThreshold": 107},
                            "readinessProbe": {**HEALTH, "timeoutSeconds": 5},
                            "livenessProbe": {**HEALTH, "timeoutSeconds": 10, "failureThreshold": 6},
                        }
                    ],
                    "volumes": [
                        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
                        {"name": "models", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
                    ],
                },
            },
        },
    }


LABELS = {"app.kubernetes.io/name": "qwen3-8b", "app.kubernetes.io/component": "model-server"}
HEALTH = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}


def test_more_cards_than_a_node_has_are_a_group_of_one_pod_per_stage():
    found, work = rendered("deepseek-r1", Ask(tp=8, pp=2, max_len=8192))

    leader, worker = templates(work)
    assert (work["kind"], work["spec"]["leaderWorkerTemplate"]["size"]) == ("LeaderWorkerSet", 2)
    (container,) = worker["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8, "nvidia.com/gpumem": found.slice_mib}
    assert container["args"][-7:] == [
        "--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", "$(LWS_LEADER_ADDRESS)", "--headless",
    ]  # fmt: skip
    assert "startupProbe" in leader["spec"]["containers"][0]
    assert "startupProbe" not in container


def test_requests_reach_leaders_alone():
    """Workers of a group have no server, and are ready at once."""
    selectors = [
        service(Wanted("r1", "/models/r1"), estimate(model("deepseek-r1"), Ask(tp=8, pp=pp, max_len=8192)))["spec"][
            "selector"
        ]
        for pp in (1, 2)
    ]

    common = {"app.kubernetes.io/name": "r1", "app.kubernetes.io/component": "model-server"}
    assert selectors == [common, {**common, "leaderworkerset.sigs.k8s.io/worker-index": "0"}]


def test_one_pod_has_at_most_the_cards_of_a_node():
    with pytest.raises(WireError, match="tp: '16': use at most 8, the cards of one node, and --pp for more"):
        rendered("deepseek-r1", Ask(tp=16, max_len=8192))


def test_sglang_listens_beyond_the_pod():
    _, work = rendered("qwen3-8b", Ask(runtime="sglang", max_len=8192))

    (container,) = work["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "sglang.launch_server"]
    assert container["args"][:8] == [
        "--model-path", "/models/qwen3-8b", "--served-model-name", "qwen3-8b", "--host", "0.0.0.0", "--port", "30000",
    ]  # fmt: skip
