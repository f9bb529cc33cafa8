"""Objects that make pods as units of a plan: which of their pods are alike, and which are in one cluster. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.gangs import gang_of
from kerf.wire.json import Json, at
from kerf.wire.objects import is_finished
from kerfctl.workloads.kinds import MAKERS, group_kind
from kerfctl.workloads.replica import Idle, Replica

_APART: frozenset[tuple[str, str]] = frozenset(
    {("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController"),
     ("batch", "Job"), ("batch", "CronJob"), ("serving.kserve.io", "InferenceService")}
)  # fmt: skip
"""Kinds whose pods may be in several clusters, unless they are a gang; those of the others belong together."""
_GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
_ROLES = (
    "jobset.sigs.k8s.io/replicatedjob-name",
    "training.kubeflow.org/replica-type",
    "ray.io/group",
    "ray.io/node-type",
    "component",
)
"""Labels that say what a pod is for, the most exact first."""


@dataclass(frozen=True, slots=True)
class Role:
    """Equal pods of a unit, and a word for what they do."""

    template: Json
    pods: int
    word: str = ""


@dataclass(frozen=True, slots=True)
class Units:
    """So many units of an object; all pods of one are in one cluster."""

    roles: tuple[Role, ...]
    count: int


def units_of(item: Json) -> list[Units] | None:
    """The object's units; None for what makes no pods, or pods that depend on nodes. Raises WireError, and NotRead."""
    kind = group_kind(item)
    if kind == ("", "Pod"):
        ended = is_finished(item) or at(item, "metadata").get("deletionTimestamp")
        meta = {part: at(item, "metadata").get(part) or {} for part in ("labels", "annotations")}
        return [Units((Role({"metadata": meta, "spec": dict(at(item, "spec"))}, 1),), 0 if ended else 1)]
    if kind not in MAKERS:
        return None
    made = MAKERS[kind](item)
    replicas = [] if isinstance(made, Idle) else list(made)
    if kind in _APART:
        return [_by_themselves(role) for role in _roles(replicas)]
    groups: dict[str, list[Replica]] = {}
    for replica in replicas:
        groups.setdefault(replica.labels.get(_GROUP_INDEX, ""), []).append(replica)
    alike: dict[str, tuple[tuple[Role, ...], int]] = {}
    for pods in groups.values():
        roles = _roles(pods)
        _, count = alike.get(key := _text([[role.template, role.pods] for role in roles]), ((), 0))
        alike[key] = (roles, count + 1)
    return [Units(roles, count) for roles, count in alike.values()]


def _by_themselves(role: Role) -> Units:
    """Pods that may be in different clusters; those of a gang start together, so they are one unit."""
    try:
        gang, _ = gang_of(at(role.template, "metadata"), at(role.template, "spec"))
    except WireError:
        gang = None  # it is read again, and refused, with the rest of the template
    return Units((role,), 1) if gang else Units((Role(role.template, 1, role.word),), role.pods)


def _roles(replicas: Iterable[Replica]) -> tuple[Role, ...]:
    found: dict[str, list[Replica]] = {}
    for replica in replicas:
        found.setdefault(_text(replica.template), []).append(replica)
    return tuple(Role(pods[0].template, len(pods), _word(pods[0].labels)) for pods in found.values())


def _word(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in _ROLES if key in labels), "")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
