"""`kerf cluster add`: checks, installs what is missing, writes a least-rights credential, and says what is usable."""

import argparse
import base64
import contextlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube, connect, connect_to
from kerf.kube.errors import Forbidden, KubeError, NotFound, Unreachable
from kerf.values.device import Card
from kerf.values.fleet import ClusterSpec
from kerf.values.supply import Supply
from kerf.values.vendor import Vendor
from kerf.wire.fleet import CLUSTERS, parse_cluster, render_cluster
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import parse_node
from kerfctl.cluster import may
from kerfctl.errors import CliError
from kerfctl.fleet.charts import APPLY, install_operator, kerf_there
from kerfctl.fleet.connect import CALL_S, clusters, manager_of, server_of
from kerfctl.fleet.steps import Steps
from kerfctl.report import say
from scheduler.fleet.rights import ACCOUNT, RULES, account_objects, named, reader_objects

OLDEST = (1, 29)
IDENTITY = "fleet.kerf.dev/cluster-uid"
"""Annotation of a Cluster: which API server it is."""
TOKEN_S = 30.0
RIGHTS_S = 15.0
MANAGER_S, LIVE_S = 15.0, 60.0
"""How long a join waits for a manager to look at the cluster, and then for the cluster to be live."""
_NEEDED = (("rbac.authorization.k8s.io", "clusterroles"), ("", "serviceaccounts"), ("", "secrets"))


def add(args: argparse.Namespace) -> int:
    """Run the steps; a failure says which were done. Exit status 1 where the cluster is joined and not yet usable."""
    spec = parse_cluster(
        render_cluster(ClusterSpec(args.name, Supply(args.supply), args.region, f"kerf-cluster-{args.name}"))
    )
    manager, server, steps = manager_of(args), server_of(args.kubeconfig, args.context), Steps()
    fleet = clusters(manager)
    try:
        member = connect(args.kubeconfig, timeout_s=CALL_S, context=args.context)
        cards = _join(args, steps, (manager, member), (spec, server, fleet))
    except (CliError, KubeError, OSError) as error:
        is_new = all(item["metadata"]["name"] != spec.name for item in fleet)
        left = _undone(manager, args.namespace, spec) if is_new and "credential" in steps.done else ""
        said = f"done so far: {', '.join(steps.done)}" if steps.done else "nothing was changed"
        raise CliError(f"{args.name}: {error} ({said}{left}; run it again once that is mended)") from error
    with contextlib.suppress(KubeError):  # nodes that have just got Kerf may show their cards by now
        cards = _cards(member, args.vendors)
    return _usable(manager, spec.name, cards)


def _join(
    args: argparse.Namespace,
    steps: Steps,
    kubes: tuple[Kube, Kube],
    what: tuple[ClusterSpec, dict[str, str], Sequence[Json]],
) -> str:
    """Every step, on the manager cluster and on the one that joins; the cards that it has."""
    (manager, member), (spec, server, fleet) = kubes, what
    first_contact(member, server["server"])
    uid = identity_of(member, spec.name, fleet)
    steps.run("version", lambda: _version(member))
    steps.run("rights", lambda: _rights(member))
    steps.run("driver", lambda: _driver(member, args))
    steps.run("kerf", lambda: kerf_there(member, args))
    cards = steps.run("cards", lambda: _cards(member, args.vendors))
    token = steps.run("credential", lambda: _credential(member, args.namespace), "written")
    config = _kubeconfig(server, token)
    steps.run("access", lambda: await_rights(connect_to(config, timeout_s=CALL_S), RULES))
    steps.run("secret", lambda: _secret(manager, args.namespace, spec.secret, config), "written")
    body = render_cluster(spec)
    body["metadata"]["annotations"] = {IDENTITY: uid} if uid else {}
    steps.run("cluster", lambda: manager.patch(f"{CLUSTERS}/{spec.name}", body, "apply", APPLY), "written")
    return cards


def first_contact(member: Kube, server: str) -> None:
    """Ask the cluster for its version. Raises CliError where it does not answer: another context may be meant."""
    try:
        member.get("/version")
    except Unreachable as error:
        fix = "check the kubeconfig's context (--context), its proxy-url, and whether the cluster runs"
        raise CliError(f"{server} cannot be reached ({error.message.rpartition(': ')[2]}): {fix}") from error


def _undone(manager: Kube, namespace: str, spec: ClusterSpec) -> str:
    """Take back what the manager cluster has of a join that failed; words about what is left."""
    account = f"; the service account {namespace}/{ACCOUNT} stays in the cluster, and no manager uses it"
    try:
        manager.get(f"{CLUSTERS}/{spec.name}")
        return ""  # the answer to the last step was lost: it has joined
    except NotFound:
        pass
    except KubeError:
        return f"{account}; Secret {namespace}/{spec.secret} may be left on the manager cluster"
    secret = f"/api/v1/namespaces/{namespace}/secrets/{spec.secret}"
    for path in (secret, *(path for path, _ in reader_objects(namespace, spec.secret))):
        try:
            manager.delete(path)
        except NotFound:
            continue
        except KubeError:
            return f"{account}; Secret {namespace}/{spec.secret} may be left on the manager cluster"
    return account


def identity_of(member: Kube, name: str, fleet: Sequence[Json]) -> str:
    """What sets an API server apart from others: the uid of its namespace kube-system; empty where that is not shown.

    Raises CliError where the fleet has it under another name, whose capacity would count twice, or where the name is
    another API server's, whose replicas would be forgotten.
    """
    try:
        uid = text_at(member.get("/api/v1/namespaces/kube-system"), "metadata", "uid")
    except (NotFound, Forbidden):
        return ""
    for item in fleet:
        known, other = at(item, "metadata", "annotations").get(IDENTITY), str(item["metadata"]["name"])
        if uid and other != name and known == uid:
            raise CliError(f"this cluster has joined as {other}: use that name, or kerf cluster remove {other} first")
        if uid and other == name and known not in (None, uid):
            raise CliError(
                f"the fleet's {name} is another cluster: use another name, or kerf cluster remove {name} first"
            )
    return uid


def _version(member: Kube) -> str:
    found = member.get("/version")
    digits = tuple(int("".join(c for c in str(found.get(key, "0")) if c.isdigit()) or 0) for key in ("major", "minor"))
    if digits < OLDEST:
        raise CliError(f"Kubernetes {found.get('gitVersion')}: Kerf needs {OLDEST[0]}.{OLDEST[1]} or newer")
    return f"Kubernetes {found.get('gitVersion')}"


def _rights(member: Kube) -> str:
    """Whether this user may do what a join needs."""
    missing = [resource for group, resource in _NEEDED if not may(member, "create", group, resource)]
    if missing:
        raise CliError(f"this kubeconfig's user may not create {', '.join(missing)}: use an administrator's")
    return "this user may create what a join needs"


def _driver(member: Kube, args: argparse.Namespace) -> str:
    """What the nodes say of driver and toolkit; the GPU Operator where it is asked for."""
    if args.gpu_operator:
        install_operator(args)
        plugin_is_off(member)
        return "the GPU Operator is installed, its own device plugin off; it brings drivers up by itself"
    nodes, _ = member.list(paths.NODES)
    with_driver = sum("nvidia.com/cuda.driver-version.full" in at(n, "metadata", "labels") for n in nodes)
    with_inventory = sum(bool(_cards_on(n, args.vendors)) for n in nodes)
    try:
        member.get("/apis/node.k8s.io/v1/runtimeclasses/nvidia")
        toolkit = "a RuntimeClass nvidia is there"
    except NotFound:
        toolkit = "no RuntimeClass nvidia: the container toolkit may be set up in containerd itself"
    if not with_driver and not with_inventory:
        return f"no node of {len(nodes)} says that it has a driver (--gpu-operator CHART installs one); {toolkit}"
    return f"{max(with_driver, with_inventory)} of {len(nodes)} nodes have a driver; {toolkit}"


def plugin_is_off(member: Kube) -> None:
    """The GPU Operator runs no device plugin of its own: older charts drop `devicePlugin.enabled`. Raises CliError."""
    try:
        policies, _ = member.list("/apis/nvidia.com/v1/clusterpolicies")
    except NotFound:
        return  # it is not that chart's operator, or its kinds are not there yet
    for item in policies:
        if at(item, "spec", "devicePlugin").get("enabled") is not False:
            name = item["metadata"]["name"]
            raise CliError(
                f"ClusterPolicy {name}: this GPU Operator's chart does not turn its device plugin off, which would "
                "offer the cards beside Kerf: use a newer chart, or set spec.devicePlugin.enabled to false in it"
            )


def _cards(member: Kube, vendors: tuple[Vendor, ...]) -> str:
    nodes, _ = member.list(paths.NODES)
    models = Counter(card.model for node in nodes for card in _cards_on(node, vendors))
    if not models:
        return "no node publishes an inventory yet: label GPU nodes gpu=on once Kerf is installed"
    return ", ".join(f"{n} x {model}" for model, n in sorted(models.items()))


def _cards_on(node: Json, vendors: tuple[Vendor, ...]) -> tuple[Card, ...]:
    return parse_node(node, vendors).cards


def _credential(member: Kube, namespace: str) -> str:
    """A token of a service account that may do what the manager does, and nothing else."""
    for path, body in account_objects(namespace):
        member.patch(path, body, "apply", APPLY)
    until = time.monotonic() + TOKEN_S
    while time.monotonic() < until:
        secret = member.get(f"/api/v1/namespaces/{namespace}/secrets/{ACCOUNT}-token")
        token = text_at(secret, "data", "token")
        if token:
            return base64.b64decode(token).decode()
        time.sleep(0.2)
    raise CliError(
        f"Secret {namespace}/{ACCOUNT}-token got no token in {TOKEN_S:.0f} s: does its controller-manager run?"
    )


def await_rights(member: Kube, rules: Sequence[Json], seconds: float = RIGHTS_S) -> str:
    """Wait until the credential may do what the manager does: an API server takes new rights up some time after.

    Raises CliError, KubeError.
    """
    wanted = [
        (str(verb), str(group), str(resource))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    until = time.monotonic() + seconds
    while missing := [each for each in wanted if not _may(member, *each)]:
        if time.monotonic() > until:
            verb, group, resource = missing[0]
            raise CliError(
                f"the service account {ACCOUNT} may not {named(verb, group, resource)} after {seconds:.0f} s: "
                f"does an authorizer other than RBAC refuse it?"
            )
        time.sleep(0.2)
    return "the credential works"


def _may(member: Kube, verb: str, group: str, resource: str) -> bool:
    try:
        return may(member, verb, group, resource)
    except Forbidden:
        return False  # the token is as new as the rights


def _kubeconfig(server: dict[str, str], token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "member", "cluster": server}],
        "users": [{"name": ACCOUNT, "user": {"token": token}}],
        "contexts": [{"name": "member", "context": {"cluster": "member", "user": ACCOUNT}}],
        "current-context": "member",
    }


def _secret(manager: Kube, namespace: str, name: str, config: dict[str, Any]) -> None:
    labels = {"app.kubernetes.io/part-of": "kerf", "app.kubernetes.io/component": "fleet"}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": {"kubeconfig": base64.b64encode(json.dumps(config).encode()).decode()},
    }
    manager.patch(f"/api/v1/namespaces/{namespace}", _namespace(namespace), "apply", APPLY)
    manager.patch(f"/api/v1/namespaces/{namespace}/secrets/{name}", body, "apply", APPLY)
    for path, document in reader_objects(namespace, name):
        manager.patch(path, document, "apply", APPLY)


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _usable(manager: Kube, name: str, cards: str) -> int:
    """The last line: what the fleet may use. It waits a little for a manager that runs. Raises CliError."""
    start = time.monotonic()
    status: Json = {}
    while time.monotonic() < start + (LIVE_S if status else MANAGER_S):
        try:
            status = at(manager.get(f"{CLUSTERS}/{name}"), "status")
        except NotFound as error:
            raise CliError(f"{name} has joined, and was removed at once: {error}") from error
        except KubeError:
            pass  # it is joined; what follows is only what is known of it
        if status.get("phase") in ("Live", "Resting", "Returned"):
            break
        time.sleep(0.5)
    if not status:
        say(f"{name} has joined; no manager runs yet (kerf fleet run, or the chart's value fleet.enabled): {cards}")
        return 1
    if status.get("phase") == "Live":
        say(f"{name} is Live, epoch {status.get('epoch')}; usable: {cards}")
        return 0
    why = next((str(c.get("message")) for c in items_at(status, "conditions") if c.get("status") == "False"), "")
    fix = "; the manager has to reach the same server" if status.get("phase") in ("Joining", "Silent", "Lost") else ""
    say(f"{name} is {status.get('phase')}, epoch {status.get('epoch')} ({why}{fix}); its cards: {cards}")
    return 1
