"""`kerf model deploy`: render, apply, and follow until the model answers."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from kerfctl.model.arguments import add_ask, add_card, readings
from kerfctl.model.lessons import add_learned
from kerfctl.model.workloads import add_wanted, estimated, objects_of, wanted_of

if TYPE_CHECKING:
    from kerf.kube.client import Kube
    from kerfctl.arguments import Verbs

FIELD_MANAGER = "kerf-cli"
LOOK_S = 2.0
COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "LeaderWorkerSet": "/apis/leaderworkerset.x-k8s.io/v1/namespaces/{}/leaderworkersets",
    "Service": "/api/v1/namespaces/{}/services",
}


def add_parser(verbs: "Verbs") -> None:
    """`deploy`."""
    parser = verbs.add_parser("deploy", help="render, apply, and follow until the model answers")
    add_ask(parser)
    add_card(parser)
    add_learned(parser, kubeconfig=True)
    add_wanted(parser)
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="S", help="seconds to follow; default: 3600")
    parser.add_argument("--no-wait", action="store_true", help="apply, and do not follow")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, apply, follow. Exits 1 where the model does not answer in time."""
    from kerf.kube.errors import KubeError
    from kerf.sizing.manifest import PORTS
    from kerfctl.cluster import connect_to
    from kerfctl.errors import CliError
    from kerfctl.report import say

    found, wanted = estimated(args), wanted_of(args)
    kube = connect_to(args)
    for item in objects_of(found, wanted):
        meta = item["metadata"]
        path = f"{COLLECTIONS[item['kind']].format(meta['namespace'])}/{meta['name']}"
        try:
            kube.patch(path, item, "apply", {"fieldManager": FIELD_MANAGER, "force": "true"})
        except KubeError as error:
            raise CliError(f"{item['kind']} {meta['namespace']}/{meta['name']}: {error}") from error
        say(f"applied: {item['kind']} {meta['namespace']}/{meta['name']}")
    cards = f"{found.ranks.cards} x {found.slice_mib:,} MiB"
    say(f"each replica asks for {cards} for {found.max_len:,} tokens and {found.ask.concurrency} requests at once")
    say(*readings(args))
    if args.no_wait or not wanted.replicas:
        return 0
    return _follow(kube, wanted, PORTS[found.ask.runtime], args.timeout)


def _follow(kube: "Kube", wanted: Any, port: int, timeout_s: float) -> int:
    """Print each change of each pod until one answers for the model."""
    from kerf.kube.errors import KubeError
    from kerf.wire.json import text_at
    from kerfctl.errors import CliError
    from kerfctl.model.progress import failures, progress
    from kerfctl.report import say

    ends, before = time.monotonic() + timeout_s, dict[str, str]()
    pods_at = f"/api/v1/namespaces/{wanted.namespace}/pods"
    selector = {"labelSelector": f"app.kubernetes.io/name={wanted.name},app.kubernetes.io/component=model-server"}
    while time.monotonic() < ends:
        try:
            pods = kube.list(pods_at, selector)[0]
        except KubeError as error:
            raise CliError(f"pods of {wanted.namespace}/{wanted.name}: {error}") from error
        now = progress(pods)
        say(*(f"{name} {text}" for name, text in now.items() if before.get(name) != text))
        before = now
        if broken := list(failures(pods)):
            raise CliError("; ".join(broken))
        ready = [
            text_at(pod, "metadata", "name") for pod in pods if now[text_at(pod, "metadata", "name")] == "is ready"
        ]
        if ready and _answers(kube, wanted, ready[0], port):
            say(f"{wanted.name} answers: kubectl -n {wanted.namespace} port-forward service/{wanted.name} 8080:http")
            return 0
        time.sleep(LOOK_S)
    waits = "; ".join(f"{name} {text}" for name, text in before.items()) or "it has no pods yet"
    raise CliError(f"{wanted.name} does not answer after {timeout_s:g} s: {waits}")


def _answers(kube: "Kube", wanted: Any, pod: str, port: int) -> bool:
    """Whether a pod lists the model, asked through the API server."""
    from kerf.kube.errors import KubeError
    from kerf.wire.json import items_at

    try:
        answer = kube.get(f"/api/v1/namespaces/{wanted.namespace}/pods/{pod}:{port}/proxy/v1/models")
    except KubeError:
        return False
    return any(each.get("id") == wanted.name for each in items_at(answer, "data"))
