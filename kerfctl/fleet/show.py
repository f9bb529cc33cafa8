"""`kerf cluster list` and `kerf cluster doctor`."""

import argparse
import json

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.values.units import show
from kerf.views.page.rows import cluster_row
from kerf.wire.errors import WireError
from kerf.wire.fleet import WORKLOADS, parse_assigned, parse_cluster
from kerf.wire.json import Json, items_at
from kerfctl.cluster import may
from kerfctl.errors import CliError
from kerfctl.fleet.connect import cluster_named, clusters, manager_of, member_of
from kerfctl.report import Sheet, say
from scheduler.fleet.rights import each_right, named


def list_clusters(args: argparse.Namespace) -> int:
    """Print every cluster of the fleet."""
    kube = manager_of(args)
    rows = [cluster_row(item) for item in clusters(kube)]
    if args.json:
        print(json.dumps({"clusters": rows}, indent=2))
        return 0
    sheet = Sheet("Clusters", ("cluster", "region", "supply", "phase", ">epoch", ">reliability", "cards"))
    for row in rows:
        cards = [
            f"{c['model']}: {c['empty']} of {c['cards']} empty, {show(c['freeMiB'])} MiB free" for c in row["classes"]
        ]
        marks = "".join(f" ({word})" for word in ("cordoned", "draining") if row[word])
        words = (row["region"] or "-", row["supply"], row["phase"] + marks, str(row["epoch"]), row["reliability"])
        sheet.add(row["name"], *words, "\n".join(cards) or "-")
    sheet.print()
    say(*(f"✗ {row['name']}: {row[key]}" for row in rows for key in ("why", "rights") if row[key]))
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Check one cluster; each problem with its fix. Exit status 1 where there is one."""
    kube = manager_of(args)
    item = cluster_named(kube, args.name)
    try:
        spec = parse_cluster(item)
    except WireError as error:
        raise CliError(f"{args.name}: {error}") from error
    problems = 0
    for text, holds in _checks(kube, args.namespace, spec.secret, item):
        say(f"{'✓' if holds else '✗'} {text}")
        problems += not holds
    parts = _parts(kube, args.name)
    say(f"{args.name}: {parts} replicas assigned; {problems} problem{'s' if problems != 1 else ''}")
    return 1 if problems else 0


def _checks(kube: Kube, namespace: str, secret: str, item: Json) -> list[tuple[str, bool]]:
    try:
        member = member_of(kube, namespace, secret)
        version = member.get("/version").get("gitVersion")
    except (CliError, KubeError) as error:
        return [(f"credential: {error}; run kerf cluster add again", False), *_conditions(item)]
    found = [(f"credential: answers, Kubernetes {version}", True)]
    try:
        missing = missing_rights(member)
        again = f"run kerf cluster add {item['metadata']['name']} again, which renews the rights"
        text = f"rights: lacks {', '.join(missing)}; {again}" if missing else "rights: all that is needed"
        found.append((text, not missing))
        nodes, _ = member.list(paths.NODES)
        found.append((f"nodes: {len(nodes)}", bool(nodes)))
    except KubeError as error:
        found.append((f"the cluster stopped answering: {error}", False))
    return [*found, *_conditions(item)]


def missing_rights(member: Kube) -> list[str]:
    """What the manager's credential may not do, of what it has to."""
    return [
        named(verb, group, resource) for verb, group, resource in each_right() if not may(member, verb, group, resource)
    ]


def _conditions(item: Json) -> list[tuple[str, bool]]:
    found = items_at(item, "status", "conditions")
    if not found:
        return [("manager: none has looked at it yet (kerf fleet run, or the chart's value fleet.enabled)", False)]
    return [(f"{each.get('type')}: {each.get('message')}", each.get("status") == "True") for each in found]


def _parts(kube: Kube, name: str) -> int:
    try:
        items, _ = kube.list(WORKLOADS)
    except KubeError:
        return 0
    return sum(part.replicas for item in items for part in parse_assigned(item) if part.cluster == name)
