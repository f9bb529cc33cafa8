"""`kerf scale`: a KEDA ScaledObject or a HorizontalPodAutoscaler that follows a workload's recommended replicas."""

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from kerfctl.errors import CliError

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

METRIC = "kerf_recommended_replicas"
KINDS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
}
MOST_REPLICAS = 2**31 - 1
LONGEST_S = 3600
"""The longest stabilization window of an HPA."""
LONGEST_VALUE = 63
"""Of a label in a selector, which an HPA finds its metric by."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_CLUSTER = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)


def add_parser(verbs: "Verbs") -> None:
    """`scale`."""
    parser = verbs.add_parser("scale", help="an autoscaler's manifest that follows the recommended replicas")
    parser.add_argument("workload", metavar="NAMESPACE/KIND/NAME", help="for example team-a/Deployment/chat")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--keda", action="store_true", help="a KEDA ScaledObject")
    form.add_argument("--hpa", action="store_true", help="a HorizontalPodAutoscaler by an external metric")
    parser.add_argument("--prometheus", metavar="URL", help="with --keda: where Prometheus answers")
    parser.add_argument(
        "--cluster",
        metavar="NAME",
        help="only this cluster's series (metering.cluster), where others have theirs beside",
    )
    parser.add_argument("--min", type=int, default=1, help="fewest replicas; default: 1")
    parser.add_argument("--max", type=int, default=64, help="most replicas; default: 64")
    parser.add_argument("--cooldown", type=int, default=600, metavar="SECONDS", help="longer than a model loads")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the manifest. Raises CliError."""
    import yaml

    from kerfctl.report import say

    namespace, kind, name = _workload(args.workload)
    if not 1 <= args.min <= args.max <= MOST_REPLICAS:
        raise CliError(f"--min {args.min}, --max {args.max}: write 1 <= MIN <= MAX <= {MOST_REPLICAS}")
    if not 0 <= args.cooldown <= LONGEST_S:
        raise CliError(f"--cooldown {args.cooldown}: write seconds from 0 to {LONGEST_S}, which is what an HPA takes")
    if args.hpa and args.prometheus:
        raise CliError("--prometheus: an HPA takes the metric from an adapter; leave it out, or write --keda")
    if args.keda and not _is_url(args.prometheus or ""):
        raise CliError(f"--prometheus {args.prometheus or ''}: write http://HOST:PORT, where Prometheus answers KEDA")
    if args.hpa and len(name) > LONGEST_VALUE:
        raise CliError(
            f"{args.workload}: an HPA finds its metric by labels of at most {LONGEST_VALUE} characters: use --keda"
        )
    if args.cluster is not None and not _CLUSTER.fullmatch(args.cluster):
        fix = f"write a name of at most {LONGEST_VALUE} letters, digits, -, _ and ., as the value of a label"
        raise CliError(f"--cluster {args.cluster}: {fix}")
    made = _keda(namespace, kind, name, args) if args.keda else _hpa(namespace, kind, name, args)
    say(yaml.safe_dump(made, sort_keys=False).rstrip("\n"))
    return 0


def _is_url(text: str) -> bool:
    return bool(re.fullmatch(r"https?://[^\s/]+(/\S*)?", text))


def _workload(text: str) -> tuple[str, str, str]:
    parts = text.split("/")
    if len(parts) != 3 or not all(_NAME.fullmatch(part) for part in (parts[0], parts[2])):
        raise CliError(f"{text}: write NAMESPACE/KIND/NAME, such as team-a/Deployment/chat")
    if parts[1] not in KINDS:
        raise CliError(f"{text}: no autoscaler scales a {parts[1]}; use one of {', '.join(KINDS)}")
    return parts[0], parts[1], parts[2]


def _labels(namespace: str, kind: str, name: str, cluster: str | None) -> dict[str, str]:
    return {"namespace": namespace, "kind": kind, "name": name} | ({"cluster": cluster} if cluster else {})


def _keda(namespace: str, kind: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    labels = _labels(namespace, kind, name, args.cluster)
    query = f"max({METRIC}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}})"
    # KEDA's default reads 0 where the metric is missing, which would scale to MIN while no leader is scraped.
    metadata = {"serverAddress": args.prometheus, "query": query, "threshold": "1", "ignoreNullValues": "false"}
    trigger = {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
    spec = {
        "scaleTargetRef": {"apiVersion": KINDS[kind], "kind": kind, "name": name},
        "minReplicaCount": args.min,
        "maxReplicaCount": args.max,
        "cooldownPeriod": args.cooldown,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(args.cooldown)}},
        "triggers": [trigger],
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": meta, "spec": spec}


def _hpa(namespace: str, kind: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    labels = _labels(namespace, kind, name, args.cluster)
    metric = {"name": METRIC, "selector": {"matchLabels": labels}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}
    spec = {
        "scaleTargetRef": {"apiVersion": KINDS[kind], "kind": kind, "name": name},
        "minReplicas": args.min,
        "maxReplicas": args.max,
        "metrics": [{"type": "External", "external": external}],
        "behavior": _behavior(args.cooldown),
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def _behavior(cooldown: int) -> dict[str, Any]:
    """Kerf has decided already: up at once, down after the cool-down."""
    return {"scaleUp": {"stabilizationWindowSeconds": 0}, "scaleDown": {"stabilizationWindowSeconds": cooldown}}
