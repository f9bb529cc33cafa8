"""The objects of files in order to pods: those that are there, and those that controllers would still make."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import is_finished, parse_node
from kerfctl.errors import CliError
from kerfctl.workloads.builtin import daemon_set, tolerant
from kerfctl.workloads.kinds import DAEMON_SET, LABELS, MAKERS, group_kind, is_read
from kerfctl.workloads.replica import MOST_REPLICAS, Idle, NotRead, Replica, named, template_at
from scheduler.core.eligible import is_eligible

Key = tuple[str, str, str]
"""Namespace, kind and name."""


@dataclass(slots=True)
class Expanded:
    """What the files' objects came to. `idle` are workloads without pods (namespace, name, reason)."""

    pods: list[Json] = field(default_factory=list)
    idle: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def expand(items: Sequence[tuple[str, Json]], nodes: Sequence[Json]) -> Expanded:
    """`items` are the objects other than nodes, each with the name of its file. Raises CliError.

    An object that owns another of the files is counted by what it owns; a pod that is there takes a replica's place.
    """
    found = Expanded()
    owners = {owner for _, item in items if item.get("kind") != "Pod" for owner in owners_of(item)}
    existing: defaultdict[Key, list[Json]] = defaultdict(list)
    for _, item in items:
        if item.get("kind") == "Pod" and not is_finished(item) and not at(item, "metadata").get("deletionTimestamp"):
            for owner in owners_of(item):
                existing[owner].append(item)
    for path, item in items:
        key = group_kind(item)
        if key[1] == "Pod":
            found.pods.append(_named(item, len(found.pods)))
        elif key not in MAKERS and key != DAEMON_SET:
            found.left_out += [] if is_read(key) else [f"not read: {key[1]} {named(item)}"]
        elif key_of(item) not in owners:
            _add(found, item, path, existing[key_of(item)], nodes)
    return found


def _add(found: Expanded, item: Json, path: str, existing: list[Json], nodes: Sequence[Json]) -> None:
    kind, namespace = group_kind(item)[1], _namespace(item)
    try:
        made = (
            daemon_set(item, _nodes_of(item, nodes))
            if group_kind(item) == DAEMON_SET
            else MAKERS[group_kind(item)](item)
        )
        if isinstance(made, Idle):
            found.idle.append((namespace, named(item), f"{kind}: {made.reason}"))
            return
        replicas = list(_missing(made, existing))
    except NotRead as error:
        found.left_out.append(f"not read: {kind} {named(item)}: {error}")
        return
    except WireError as error:
        raise CliError(f"{path}: {kind} {named(item)}: {error}") from error
    if len(replicas) > MOST_REPLICAS:
        raise CliError(f"{path}: {kind} {named(item)} makes {len(replicas)} pods: write at most {MOST_REPLICAS}")
    found.pods += [_named(_pod(replica, item), len(found.pods) + i) for i, replica in enumerate(replicas)]


def _nodes_of(item: Json, nodes: Sequence[Json]) -> Iterator[str]:
    spec = tolerant(at(template_at(at(item, "spec"), "template", "spec"), "spec"))
    return (node.name for node in (parse_node(raw, ()) for raw in nodes) if is_eligible(spec, node))


def _missing(replicas: Iterable[Replica], existing: Iterable[Json]) -> Iterator[Replica]:
    """The replicas for which no pod is there yet."""
    left = list(existing)
    for replica in replicas:
        there = next((pod for pod in left if _stands_for(pod, replica)), None)
        if there is None:
            yield replica
        else:
            left.remove(there)


def _stands_for(pod: Json, replica: Replica) -> bool:
    labels = at(pod, "metadata", "labels")
    if replica.node:
        return bool(at(pod, "spec").get("nodeName", replica.node) == replica.node)
    return all(labels.get(key, value) == value for key, value in replica.labels.items())


def owners_of(item: Json) -> Iterator[Key]:
    """The workloads that an object belongs to: its controller, and the one that its labels name."""
    namespace, labels = _namespace(item), at(item, "metadata", "labels")
    for owner in items_at(item, "metadata", "ownerReferences"):
        if owner.get("controller") is not True:
            continue
        kind, name = str(owner.get("kind")), str(owner.get("name"))
        yield namespace, kind, name
        ending = f"-{labels.get('pod-template-hash')}"
        if kind == "ReplicaSet" and name.endswith(ending):
            yield namespace, "Deployment", name.removesuffix(ending)
    yield from ((namespace, kind, str(labels[label])) for label, kind in LABELS.items() if label in labels)


def _pod(replica: Replica, item: Json) -> Json:
    meta = at(replica.template, "metadata")
    made = {
        **meta,
        "name": replica.name,
        "namespace": _namespace(item),
        "labels": {**at(meta, "labels"), **replica.labels},
        "annotations": {**at(meta, "annotations"), **replica.annotations},
    }
    owner = {"apiVersion": item.get("apiVersion", "v1"), "kind": group_kind(item)[1], "name": named(item)}
    owners = [{**owner, "uid": str(at(item, "metadata").get("uid", "")), "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", **replica.template, "metadata": {**made, "ownerReferences": owners}}


def _named(pod: Json, position: int) -> Json:
    """A pod with a namespace and a uid, so that two of one name in two files stay two."""
    meta = {"namespace": "default", "uid": f"file-{position}", **pod["metadata"]}
    return {**pod, "metadata": meta}


def key_of(item: Json) -> Key:
    """Namespace, kind and name of an object."""
    return _namespace(item), group_kind(item)[1], named(item)


def _namespace(item: Json) -> str:
    return text_at(item, "metadata", "namespace") or "default"
