"""`kerf model deploy`: render, apply, and follow until the model answers."""

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerfctl.model.answer import answer_of
from kerfctl.model.arguments import add_ask, add_card, readings
from kerfctl.model.lessons import add_learned
from kerfctl.model.progress import failures, progress
from kerfctl.model.rollout import (
    GROUPS,
    answers,
    is_final,
    last_message,
    newest,
    newest_groups,
    older_than,
    refused,
)
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
    from kerf.sizing.manifest import PORTS
    from kerfctl.cluster import connect_to
    from kerfctl.report import say

    found, wanted = estimated(args), wanted_of(args)
    kube = connect_to(args)
    objects = objects_of(found, wanted)
    older, *_ = [_applied(kube, item) for item in objects]
    cards = f"{found.ranks.cards} x {found.slice_mib:,} MiB"
    say(f"each replica asks for {cards} for {found.max_len:,} tokens and {found.ask.concurrency} requests at once")
    say(*readings(args))
    if args.no_wait or not wanted.replicas:
        return 0
    task = found.model.shape.task
    return _follow(kube, Followed(wanted, objects[0]["kind"], PORTS[found.ask.runtime], task, older), args)


def _applied(kube: "Kube", item: Any) -> int:
    """Apply one object. Returns the revision that is older than what was applied (`older_than`). Raises CliError."""
    from kerf.kube.errors import KubeError, NotFound
    from kerfctl.errors import CliError
    from kerfctl.report import say

    kind, space, name = item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]
    path, before, revisions, older = f"{COLLECTIONS[kind].format(space)}/{name}", dict[str, Any](), list[Any](), -1
    try:
        if kind == "LeaderWorkerSet":
            try:
                before, revisions = kube.get(path), _revisions(kube, space, name)
            except NotFound:
                before = {}
        after = kube.patch(path, item, "apply", {"fieldManager": FIELD_MANAGER, "force": "true"})
        older = older_than(before, after, revisions) if before else -1
    except KubeError as error:
        raise CliError(f"{kind} {space}/{name}: {error}") from error
    say(f"applied: {kind} {space}/{name}")
    return older


def _revisions(kube: "Kube", space: str, name: str) -> list[Any]:
    """The revisions of a LeaderWorkerSet's template. Raises KubeError."""
    query = {"labelSelector": f"{GROUPS}/name={name}"}
    return list(kube.list(f"/apis/apps/v1/namespaces/{space}/controllerrevisions", query)[0])


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed: the workload's kind, and where and what its servers are asked."""

    wanted: Any
    kind: str
    port: int
    task: str
    older: int
    """The last revision of a LeaderWorkerSet's former template."""


def _follow(kube: "Kube", to: Followed, args: argparse.Namespace) -> int:
    """Print each change of each pod until one answers for the model."""
    from kerf.kube.errors import KubeError
    from kerfctl.errors import CliError
    from kerfctl.report import say

    name, before = to.wanted.name, dict[str, str]()
    ends = time.monotonic() + args.timeout
    while time.monotonic() < ends:
        try:
            now, pods = _look(kube, to)
        except KubeError as error:
            raise CliError(f"pods of {to.wanted.namespace}/{name}: {error}") from error
        answer = _ask(kube, to, now, pods)
        say(*(f"{each} {text}" for each, text in now.items() if before.get(each) != text))
        before = now
        if broken := list(failures(pods)):
            raise CliError("; ".join(broken))
        if answer is not None:
            say(f"{name} answers: {answer}")
            say(f"reach it by kubectl -n {to.wanted.namespace} port-forward service/{name} 8080:http")
            return 0
        time.sleep(LOOK_S)
    waits = "; ".join(f"{each} {text}{_warned(kube, to, each)}" for each, text in before.items())
    waits = waits or "it has no pods yet"
    raise CliError(f"{name} does not answer after {args.timeout:g} s: {waits}")


def _look(kube: "Kube", to: Followed) -> tuple[dict[str, str], list[Any]]:
    """Where the newest pods are, and they themselves. Raises CliError where none will come, and KubeError."""
    from kerf.kube import paths
    from kerfctl.errors import CliError

    space, name = to.wanted.namespace, to.wanted.name
    selector = {"labelSelector": f"app.kubernetes.io/name={name},app.kubernetes.io/component=model-server"}
    pods = kube.list(paths.pods(space), selector)[0]
    if to.kind != "Deployment":
        own = newest_groups(_revisions(kube, space, name), pods, to.older)
        return progress(own), own
    owner = kube.get(f"{COLLECTIONS[to.kind].format(space)}/{name}")
    sets = kube.list(f"/apis/apps/v1/namespaces/{space}/replicasets", selector)[0]
    own, refusal = newest(owner, sets, pods), refused(owner)
    if refusal and not own:
        if is_final(refusal):
            raise CliError(f"{name} gets no pods: {refusal}")
        return {name: f"waits for its pods: {refusal}"}, own
    return progress(own), own


def _warned(kube: "Kube", to: Followed, pod: str) -> str:
    """The last warning about a pod: a volume that cannot be mounted, a probe that fails."""
    from kerf.kube.errors import KubeError

    query = {"fieldSelector": f"involvedObject.name={pod},type=Warning"}
    try:
        found = kube.list(f"/api/v1/namespaces/{to.wanted.namespace}/events", query)[0]
    except KubeError:
        return ""
    return f" ({last})" if (last := last_message(found)) else ""


def _ask(kube: "Kube", to: Followed, now: dict[str, str], pods: list[Any]) -> str | None:
    """The first ready pod's answer; None where there is none yet, which `now` then says."""
    from kerf.kube.errors import KubeError

    servers = (pod["metadata"]["name"] for pod in pods if answers(pod))
    ready = next((name for name in servers if now.get(name) == "is ready"), None)
    if ready is None:
        return None
    root = f"/api/v1/namespaces/{to.wanted.namespace}/pods/{ready}:{to.port}/proxy"
    try:
        return answer_of(kube, root, to.wanted.name, to.task)
    except KubeError as error:
        now[ready] = f"is ready and lists the model, but does not answer: {error}"
        return None
