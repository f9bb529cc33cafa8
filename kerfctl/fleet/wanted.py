"""What the files of `kerf simulate --clusters` want: FleetWorkloads, and ordinary workloads as such."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kerf.values.fleet import FleetWorkload
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import CLUSTER, WORKLOAD, parse_workload
from kerf.wire.json import Json, at
from kerf.wire.objects import is_finished
from kerfctl.errors import CliError
from kerfctl.fleet.filed_claims import FiledClaims
from kerfctl.workloads.expand import key_of, owners_of
from kerfctl.workloads.kinds import DAEMON_SET, MAKERS, group_kind, is_read
from kerfctl.workloads.replica import Idle, named
from scheduler.fleet.shapes import NoCards, Terms, read_template

Kind = tuple[str, str]
_ALIKE: frozenset[Kind] = frozenset(
    {("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController"),
     ("batch", "Job")}
)  # fmt: skip
"""Kinds that make equal pods, each of which may be in another cluster."""
_FLEET: Kind = ("kerf.dev", WORKLOAD)
_GROUPS: Kind = ("leaderworkerset.x-k8s.io", "LeaderWorkerSet")


@dataclass(slots=True)
class Wanted:
    """The workloads that ask for cards, under names that no two share. Nothing is planned for the rest."""

    workloads: list[FleetWorkload] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A line for each object that makes pods, or that kerf does not know, and that is not read."""
    without_cards: list[str] = field(default_factory=list)
    """Kind and name of each workload that asks for no card."""


def wanted(items: Sequence[tuple[str, Json]], terms: Terms) -> Wanted:
    """Read the objects, each with the name of its file. What another of them owns counts with that. Raises CliError."""
    found, claims, seen = Wanted(), FiledClaims.of(items), set[str]()
    there = {key_of(item) for _, item in items}
    for path, item in items:
        key = group_kind(item)
        if any(owner in there for owner in owners_of(item)):
            continue
        try:
            one = _as_workload(item)
            if one is None:
                found.left_out += [f"not read: {key[1]} {named(item)}"] if _makes_pods(key) else []
                continue
            one = claims.asked_by(one, key[1])
            for accept in (None, *one.accepts):
                read_template(one, accept, terms)
            found.workloads.append(_own_name(one, key[1], seen))
        except WireError as error:
            if isinstance(error, NoCards) and key != _FLEET:
                found.without_cards.append(f"{key[1]} {named(item)}")
                continue
            raise CliError(f"{path}: {key[1]} {named(item)}: {error}") from error
    alone, unread = claims.alone(item for _, item in items)
    found.workloads += [_own_name(one, "ResourceClaim", seen) for one in alone]
    found.left_out += unread
    return found


def _makes_pods(key: Kind) -> bool:
    return key[1] != CLUSTER and (key in MAKERS or key == DAEMON_SET or not is_read(key))


def _as_workload(item: Json) -> FleetWorkload | None:
    """A FleetWorkload, or an ordinary workload as one; None for what is none. Raises WireError."""
    key, spec = group_kind(item), at(item, "spec")
    if key == _FLEET:
        return parse_workload(item)
    body: Mapping[str, object] | None = None
    if key in _ALIKE:
        made = MAKERS[key](item)
        body = {"replicas": 0 if isinstance(made, Idle) else len(list(made)), "template": spec.get("template")}
    elif key == _GROUPS:
        body = _groups(at(spec, "leaderWorkerTemplate"), spec.get("replicas"))
    elif key == ("", "Pod"):
        ended = is_finished(item) or at(item, "metadata").get("deletionTimestamp")
        meta = {part: at(item, "metadata").get(part) or {} for part in ("labels", "annotations")}
        body = {"replicas": 0 if ended else 1, "template": {"metadata": meta, "spec": dict(spec)}}
    if body is None:
        return None
    # Other kinds may have longer names than a FleetWorkload, and names with dots.
    meta = {"name": "workload", "namespace": item["metadata"].get("namespace")}
    one = parse_workload({"apiVersion": API_VERSION, "kind": WORKLOAD, "metadata": meta, "spec": body})
    return replace(one, name=named(item))


def _groups(parts: Json, replicas: object) -> Mapping[str, object] | None:
    """A LeaderWorkerSet's groups; None where the leader is another pod than its workers."""
    if parts.get("leaderTemplate") not in (None, parts.get("workerTemplate")):
        return None
    size = parts.get("size")
    return {
        "replicas": 1 if replicas is None else replicas,
        "groupSize": 1 if size is None else size,
        "template": parts.get("workerTemplate"),
    }


def _own_name(one: FleetWorkload, kind: str, seen: set[str]) -> FleetWorkload:
    """The workload under a name that no other has: in Kubernetes each kind has names of its own."""
    names: Iterator[str] = (
        f"{one.name} ({kind})" if n == 1 else f"{one.name} ({kind} {n})" for n in range(1, len(seen) + 2)
    )
    name = one.name
    while f"{one.namespace}/{name}" in seen:
        name = next(names)
    seen.add(f"{one.namespace}/{name}")
    return replace(one, name=name)
