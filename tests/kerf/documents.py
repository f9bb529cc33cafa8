"""Documents that decoders read, one or more for each: what property tests change and fuzzers start from."""

import base64
import json
from pathlib import Path

import yaml

from kerf.testing.builders import a_card, a_container, a_grant, a_node, a_pod
from kerf.values.accepts import Chosen
from kerf.values.grant import CardUse
from kerf.values.learned import Learned, Lesson, ServerPeak, Setup
from kerf.values.mig import Geometry, Hurt, Instance, Profile
from kerf.values.offer import DeviceTaint, OfferedCard
from kerf.wire.fleet_places import MARKS
from kerf.wire.limiter import CardLimit, LedgerSpec, render_ledger
from kerf.wire.mig import geometry_json
from kerf.wire.records import PodRecord
from kerf.wire.resourceslices import render_pool
from scheduler.usage._pb import gateway_usage_pb2 as pb

SLICES = render_pool("n", "u", [OfferedCard(a_card(), 8, taints=(DeviceTaint("k", "v", "NoExecute"),))], shares=True)

RECORD = PodRecord(
    "u", "n", "p", "Job/j", "m", 1, 2, {"GPU-0": CardUse(1, 2, 1)}, (ServerPeak("c", "m", "i", ("vllm",), ("serve",)),)
)
LEARNED = Learned((Lesson(Setup("qwen3-8b", "vllm", "0.33", "H100", 4, 2048), 8192, 900, kv_percent=3, pods=1),))
PAGE_KEY = bytes(32)
CLUSTER = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": "east"},
    "spec": {"region": "eu", "supply": "rented", "kubeconfigSecret": "s", "cordoned": True, "draining": False},
}
CLAIM_SPEC = {
    "devices": {
        "requests": [
            {
                "name": "gpu",
                "exactly": {
                    "deviceClassName": "slice.gpu.kerf.dev",
                    "count": 2,
                    "capacity": {"requests": {"memory": "8Gi", "cores": "30"}},
                    "selectors": [{"cel": {"expression": "device.attributes['gpu.kerf.dev'].model.contains('H100')"}}],
                },
            },
            {"name": "any", "firstAvailable": [{"name": "a", "deviceClassName": "card.gpu.kerf.dev"}]},
        ],
        "constraints": [{"requests": ["gpu"], "distinctAttribute": "gpu.kerf.dev/uuid"}],
    }
}
SELECTOR = (
    "device.attributes['gpu.kerf.dev'].?model.orValue('').matches('H1') && (device.attributes['gpu.kerf.dev'].index "
    "in [1, 2 + 1] || !(device.capacity['gpu.kerf.dev'].memory.isLessThan(quantity('8Gi')) ? false : true))"
)
CONDITION = (
    "cel.bind(mine, device.attributes['gpu.kerf.dev'], mine.model.matches('H[12]00') && (mine.?profile.hasValue() || "
    "device.capacity['gpu.kerf.dev'].memory.compareTo(quantity('8Gi')) >= 0))"
)
DEVICE_CLASS = {
    "metadata": {"name": "large"},
    "spec": {"selectors": [{"cel": {"expression": SELECTOR}}], "extendedResourceName": "example.com/large"},
}
CLAIMING_WORKLOAD = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "FleetWorkload",
    "metadata": {"name": "claims", "namespace": "serving"},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "half"}],
                "containers": [
                    {"name": "main", "resources": {"claims": [{"name": "gpu"}]}},
                    {"name": "whole", "resources": {"limits": {"gpu.kerf.dev/card": "1"}}},
                ],
            }
        },
    },
}
FLEET_WORKLOAD = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "FleetWorkload",
    "metadata": {"name": "chat", "namespace": "serving", "generation": 2},
    "spec": {
        "replicas": 3,
        "groupSize": 2,
        "handOver": "LeaderWorkerSet",
        "template": {"spec": {"containers": [{"name": "main"}]}},
        "accepts": [{"model": "H100", "memoryMiB": 8000, "cores": 30}],
        "clusters": ["east"],
        "regions": ["eu"],
        "preferRegions": {"regions": ["eu"], "elsewherePercent": 10},
        "supply": "owned",
        "mostPerCluster": 2,
        "survive": 1,
        "minAvailable": 1,
        "maxMoves": 1,
        "priority": 5,
    },
}
FLEET_PLACES = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "FleetPlaces",
    "metadata": {"name": "chat", "labels": dict.fromkeys(MARKS, "1")},
    "spec": {"replicas": 2, "places": [{"node": "gpu-1", "cards": ["GPU-1", "GPU-0"], "pods": 2}]},
}
FLEET_STATUS = {
    "status": {
        "epoch": 2,
        "phase": "Live",
        "lastContact": 1764000000,
        "restingUntil": 1764000100,
        "losses": [1763000000],
        "assignments": [{"cluster": "east", "model": "NVIDIA H100", "epoch": 2, "replicas": 3, "leaving": 1}],
    }
}
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "request": {"uid": "u", "kind": {"kind": "Pod"}, "userInfo": {"username": "joe"}, "object": {}, "oldObject": None},
}
FILTER = {"Pod": {}, "NodeNames": ["a"]}
FULL_FILTER = {"Pod": {}, "Nodes": {"items": [{"metadata": {"name": "a"}}]}}
BIND = {"PodNamespace": "d", "PodName": "p", "PodUID": "u", "Node": "n"}
PREEMPT = {"Pod": {}, "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "u"}], "NumPDBViolations": 1}}}
FULL_PREEMPT = {"Pod": {}, "NodeNameToVictims": {"n": {"Pods": [{"metadata": {"uid": "u"}}], "NumPDBViolations": 1}}}
POLICY = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "SchedulingPolicy",
    "spec": {
        "nodes": "spread",
        "cards": ["mutex", "binpack"],
        "weights": {"slot": 1, "core": 1, "memory": 3},
        "defaults": {"memoryMiB": 0, "cores": 0, "cards": 1, "wholeCardCores": True},
        "pools": [
            {
                "name": "p",
                "nodeSelector": {"a": "b"},
                "memoryOvercommit": 1.5,
                "coresOvercommit": 2,
                "recovery": "cordon",
            }
        ],
        "accepts": {"mode": "first", "order": "price", "answerSeconds": 1, "explainAfterSeconds": 5},
        "planner": {"enabled": True, "maxPods": 5, "deterministicLimit": 1, "gangTimeoutSeconds": 60},
        "recovery": {
            "mode": "recover",
            "dryRun": True,
            "deadlineSeconds": 60,
            "afterDeadline": "delete",
            "breaker": {"percent": 50, "windowSeconds": 300, "quietSeconds": 900},
            "cleanReadings": 6,
            "codes": {"109": "cordon"},
            "remedies": {"reset-card": {"spec": {"template": {"spec": {"containers": [{"name": "x"}]}}}}},
        },
        "express": True,
        "quota": {"engine": "kueue", "shrinkAfterSeconds": 15, "reservePercent": 1, "fitCheck": True},
        "admission": {"privileged": "allow"},
        "learning": {"mode": "observe"},
        "fleet": {"lostAfterSeconds": 60, "trusted": 0.5},
        "metering": {
            "enabled": True,
            "cluster": "east",
            "supply": "owned",
            "retentionDays": 30,
            "tokens": {"outputWeight": 4, "floor": "0.1", "ceiling": "9", "withIdle": True},
            "scaleOut": {"waitingPerReplica": 4, "kvPercent": 90},
        },
        "gateways": {
            "to": ["knoway", "litellm", "envoy-ai-gateway", "inferencepool"],
            "namespace": "gateways",
            "namespaces": ["serving"],
            "pods": {"app": "vllm"},
            "gateway": "gateways/main",
            "picker": "picker:9002",
            "limitHeader": "x-user",
            "tokensPerMinute": 1000,
            "litellm": {"general_settings": {"master_key": "os.environ/KEY"}},
        },
    },
}
CDI = {
    "kind": "nvidia.com/gpu",
    "containerEdits": {"env": ["A=1"]},
    "devices": [{"name": "GPU-0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
}
REGISTER = [
    {"id": "GPU-0", "count": 10, "devmem": 1, "devcore": 100, "type": "NVIDIA", "mode": "hami-core", "health": True}
]
POD = a_pod(
    init=[a_container("fetch")],
    labels={"kerf.dev/gang": "g"},
    annotations={
        "kerf.dev/gang-size": "2",
        "hami.io/node-scheduler-policy": "spread",
        "hami.io/gpu-scheduler-policy": "mutex",
        "hami.io/device-scoring-weights": "slot=1,core=1,memory=3",
        "nvidia.com/use-gpuuuid": "a,b",
        "nvidia.com/vgpu-mode": "mig",
        "nvidia.com/numa-bind": "true",
    },
    spec={"priority": 1, "overhead": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}, "schedulingGroup": {}},
    node="node-1",
    grant=a_grant(),
)
NODE = a_node()
_TERM = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
EXPRESS_POD = a_pod(
    init=[a_container("side", restartPolicy="Always")],
    labels={"app": "web"},
    spec={
        "priority": 1,
        "overhead": {"cpu": "1"},
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]}},
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": _TERM, "namespaces": ["a"]}]
            },
        },
    },
)
TENANT = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "TenantQuota",
    "metadata": {"name": "team-a"},
    "spec": {
        "namespaces": ["a", "b"],
        "weight": 3,
        "priority": "high",
        "whenOver": "evict",
        "claims": "allow",
        "classes": [
            {"model": "H100", "guaranteed": "8 cards of H100"},
            {"model": "A100", "guaranteed": {"memory": "80Gi", "cores": 100, "cards": 1}},
        ],
    },
}
RESOURCE_QUOTA = {
    "metadata": {"name": "rq", "namespace": "a"},
    "spec": {
        "hard": {
            "limits.nvidia.com/gpumem": "20Gi",
            "requests.nvidia.com/gpu": "2",
            "limits.nvidia.com/gpucores": "1.5",
        },
        "scopes": ["Terminating"],
        "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["vip"]}]},
    },
}
GANG_POD = {
    "metadata": {
        "namespace": "a",
        "labels": {
            "kerf.dev/gang": "g",
            "leaderworkerset.sigs.k8s.io/name": "l",
            "leaderworkerset.sigs.k8s.io/group-index": "0",
            "jobset.sigs.k8s.io/jobset-name": "j",
            "pod-template-hash": "x",
        },
        "annotations": {"scheduling.k8s.io/group-name": "v", "kueue.x-k8s.io/pod-group-total-count": "2"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "r-x", "controller": True}],
    },
    "spec": {"nodeName": "n", "activeDeadlineSeconds": 1, "affinity": {"podAffinity": {}}, "containers": []},
    "status": {"phase": "Running"},
}
LEDGER = render_ledger(LedgerSpec((CardLimit("GPU-0", 1 << 30, 30), CardLimit("GPU-1", None, None)), generation=7))

MODELS = (
    {
        "model_type": "qwen3_moe",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
        "num_experts": 4,
        "moe_intermediate_size": 32,
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "ignore": ["re:.*x"]},
    },
    {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "vocab_size": 512,
            "sliding_window": 64,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
        "vision_config": {"hidden_size": 32, "num_hidden_layers": 1},
    },
    {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 512,
    },
)
MODELHUB = {
    "apiVersion": "model.hydra.io/v1alpha1",
    "kind": "ModelSpec",
    "metadata": {"name": "m"},
    "spec": {
        "source": {"huggingface": {"name": "o/m"}, "modelscope": {"name": "o/m"}},
        "deployments": [
            {
                "runtime": "vllm",
                "versionRequired": ">=v0.6.5",
                "resourceRequirements": {"gpuCount": 2, "gpuType": "vgpu", "perGPUMemoryGB": 1},
                "customRuntimeArgs": ["--max-model-len=1k", "--gpu-memory-utilization 0.9"],
            }
        ],
    },
}
PRICES = {
    "apiVersion": "kerf.dev/v1alpha1",
    "kind": "PriceList",
    "spec": {
        "currency": "USD",
        "prices": [
            {"model": "H100", "supply": "rented", "region": "r", "perHour": "2.5", "source": "s", "date": "2026-01-01"}
        ],
        "throughput": [{"model": "H100", "relative": 1.0, "source": "s", "date": "2026-01-01"}],
    },
}
_HOUR = "2026-01-01T00:00:00Z"
_ROW = {"namespace": "n", "workload": "Job/j", "class": "c", "vgpuSeconds": "1.5", "cost": "0.1"}
USAGE = {
    "kind": "TenantUsage",
    "spec": {
        "hour": _HOUR,
        "until": _HOUR,
        "closed": False,
        "rows": [_ROW],
        "tokens": [{"model": "m", "input": 1}],
        "cards": [{"class": "c", "seconds": "1", "perHour": "2", "cost": "3"}],
        "prices": [{"model": "m", "output": "1"}],
        "counters": [{"uid": "u", "output": 1}],
        "gaps": ["a"],
    },
}
ENGINE = a_pod(
    containers=[{"name": "s", "image": "vllm/vllm-openai:v1", "args": ["--model=m", "--port", "8001"]}],
    annotations={"kerf.dev/engine-metrics": "sglang:1/x", "prometheus.io/port": "80"},
)
ENGINE["metadata"]["ownerReferences"] = [{"controller": True, "kind": "ReplicaSet", "name": "a-b"}]
CHOICE = Chosen("nvidia.com/gpu", "cheap", "p-1", 7, ("nvidia.com/gpu",))
INDEX = {"metadata": {"total_size": 1}}
SAFETENSORS = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F4", "shape": [4, 16], "data_offsets": [0, 32]}}
KUBECONFIG = {
    "users": [{"name": "u", "user": {"token": "t"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://c", "certificate-authority-data": ""}}],
}
SECRET = {"data": {"kubeconfig": base64.b64encode(json.dumps(KUBECONFIG).encode()).decode()}}
REMOTE = {"spec": {"clusterSource": {"kubeConfig": {"locationType": "Secret", "location": "s"}}}}
ACCOUNT = {
    **TENANT,
    "status": {
        "enforced": True,
        "waiting": ["why"],
        "classes": [
            {
                "name": "nvidia-h100-shared",
                "vendor": "nvidia",
                "model": "H100",
                "mode": "shared",
                "cardMiB": {"smallest": 81_559, "largest": 81_559, "reserved": 480},
                "guaranteed": {"memoryMiB": 81_559, "cores": 100, "cards": 1},
                "used": {"memoryMiB": 1},
                "drift": {"cards": 0},
            }
        ],
        "conditions": [{"type": "Ready", "status": "False", "message": "m"}],
    },
}
GEOMETRY = geometry_json(
    Geometry((Profile(19, "1g.10gb", 9728, 14, 1, (0, 1)),), (Instance(0, 1, 19),), (Hurt(1, "u", 94, "c", 5),))
)
VENDOR = yaml.safe_load((Path(__file__).parents[2] / "examples" / "vendors" / "acme.yaml").read_text())
USAGE_REPORT = pb.UsageReportRequest(api_key_id="k", user_id="u", upstream_model_name="m")
