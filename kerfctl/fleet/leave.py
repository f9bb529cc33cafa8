"""`kerf cluster remove`: drain, wait, forget."""

import argparse
import contextlib
import time

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.fleet import CLUSTERS, WORKLOADS, parse_assigned, parse_cluster
from kerfctl.errors import CliError
from kerfctl.fleet.connect import cluster_named, manager_of, member_of
from kerfctl.report import say
from scheduler.fleet.handover import owned
from scheduler.fleet.manager import NAME
from scheduler.fleet.rights import reader_objects


def remove(args: argparse.Namespace) -> int:
    """Let a cluster go once its replicas run elsewhere; every step can be repeated."""
    kube = manager_of(args)
    spec = parse_cluster(cluster_named(kube, args.name))
    try:
        if not args.now:
            kube.patch(f"{CLUSTERS}/{args.name}", {"spec": {"draining": True}})
            say(f"{args.name} is draining")
            _await_empty(kube, args.name, args.timeout)
            _await_clean(kube, args, spec.secret)
        for path, _ in reader_objects(args.namespace, spec.secret):
            with contextlib.suppress(NotFound):
                kube.delete(path)
        with contextlib.suppress(NotFound):
            kube.delete(f"/api/v1/namespaces/{args.namespace}/secrets/{spec.secret}")
        kube.delete(f"{CLUSTERS}/{args.name}")  # the last step: until then it can be run again
    except KubeError as error:
        raise CliError(f"{args.name}: {error}") from error
    say(f"{args.name} has left; kubectl delete clusterrole,clusterrolebinding kerf-fleet there ends the rights")
    return 0


def _await_clean(kube: Kube, args: argparse.Namespace, secret: str) -> None:
    """Until the manager has removed there what it had handed over."""
    until = time.monotonic() + args.timeout
    try:
        member = member_of(kube, args.namespace, secret)
        while (left := [path for path, _ in owned(member, NAME, args.name)]) and time.monotonic() < until:
            time.sleep(1.0)
    except (CliError, KubeError) as error:
        fix = "its replicas run elsewhere; --now forgets the cluster, and what is left there stays"
        raise CliError(f"{args.name}: {error}: {fix}") from error
    if left:
        fix = "does the manager run? --now forgets the cluster"
        raise CliError(f"{args.name}: {', '.join(left)} still there: {fix}")


def _await_empty(kube: Kube, name: str, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    left = -1
    while True:
        items, _ = kube.list(WORKLOADS)
        held = {
            f"{item['metadata']['namespace']}/{item['metadata']['name']}": part.replicas
            for item in items
            for part in parse_assigned(item)
            if part.cluster == name
        }
        if not held:
            return
        if sum(held.values()) != left:
            left = sum(held.values())
            say(f"{left} replicas still there: {', '.join(sorted(held))}")
        if time.monotonic() > until:
            fix = "make room elsewhere or raise their maxMoves, or use --now; kerf cluster plan says more"
            raise CliError(f"{name}: {left} replicas of {', '.join(sorted(held))} did not find another place: {fix}")
        time.sleep(1.0)
