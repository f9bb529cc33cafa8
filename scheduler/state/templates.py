"""What pods of one template have in common, read once: a cluster of 40,000 pods has a few hundred templates.

The key is all of a pod but the parts that differ from pod to pod and that nothing here reads. So a field that somebody
reads later is in the key already.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson

from kerf.values.ask import PodAsk, Reach, Stages
from kerf.values.policy import Defaults
from kerf.values.subject import NO_SUBJECT, Subject
from kerf.values.traits import Traits
from kerf.values.vendor import Vendor, words_of
from kerf.wire.accepts import parse_chosen
from kerf.wire.annotations import GRANT
from kerf.wire.errors import WireError
from kerf.wire.fleet_places import part_of
from kerf.wire.gangs import gang_of
from kerf.wire.json import Json, at, items_at
from kerf.wire.resources import effective_requests, parse_pod, reach_of, stages_of
from kerf.wire.subject import subject_of
from kerf.wire.traits import traits_of
from scheduler.state.fleet import ANY_CARD

NAMELESS = "Pod/"
"""The workload of a pod that nothing controls, without the pod's name."""
MOST = 4096
"""Templates that are remembered, about 1 kB each."""
_OWN_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "statefulset.kubernetes.io/pod-name",
        "batch.kubernetes.io/job-completion-index",
    }
)
_OWN_NOTES = (GRANT, "cni.projectcalico.org/", "k8s.v1.cni.cncf.io/", "k8s.ovn.org/", "ovn.kubernetes.io/")
OWN_SPEC = frozenset({"nodeName", "volumes", "hostname"})
"""Parts of a PodSpec in which pods of one template may differ."""
CONTAINERS = ("initContainers", "containers")
_RESIZED = ("name", "allocatedResources", "resources")
_STATUSES = ("initContainerStatuses", "containerStatuses")


@dataclass(frozen=True, slots=True)
class Template:
    """What a pod says, whatever its name, its node and its grant."""

    cpu_milli: int
    memory_mib: int
    gang: str | None
    kind: str
    priority: int
    traits: Traits
    subject: Subject
    """Without the moment of the Binding; its workload may be NAMELESS."""
    reach: Reach
    part: str = ""
    """The part of a fleet's workload."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Common:
    """A pod without what makes it differ from the others of its template, and the digest of that."""

    part: Json
    key: bytes | None


class Templates:
    """The templates of pods, for one list of vendors."""

    def __init__(self, vendors: tuple[Vendor, ...]) -> None:
        self._vendors = vendors
        self._names = words_of(vendors)
        self._known: dict[tuple[bytes, frozenset[str]], Template] = {}
        self._stages: dict[bytes, Stages] = {}
        self._asks: dict[bytes, tuple[PodAsk, Stages]] = {}
        self._defaults: Defaults | None = None

    def common(self, pod: Json) -> Common:
        """What `of` and `stages` are asked about."""
        part = common_part(pod)
        return Common(part, _digest(part))

    def of(self, common: Common, held: frozenset[str]) -> Template:
        """The template of a pod that holds cards of the vendors with these names."""
        if common.key is None:
            return read(common.part, held, self._vendors)
        known = self._known.get((common.key, held))
        if known is None:
            if len(self._known) >= MOST:
                self._known.clear()
            known = self._known[common.key, held] = read(common.part, held, self._vendors)
        return known

    def stages(self, common: Common) -> Stages:
        """The pod's containers in order. Raises WireError."""
        if common.key is None:
            return stages_of(common.part["spec"])
        known = self._stages.get(common.key)
        if known is None:
            known = stages_of(common.part["spec"])
            if len(self._stages) >= MOST:
                self._stages.clear()
            self._stages[common.key] = known
        return known

    def ask_of(self, pod: Json, defaults: Defaults, common: Common | None = None) -> tuple[PodAsk, Stages]:
        """What a waiting pod asks, and its containers in order. Raises WireError."""
        if defaults != self._defaults:
            self._asks.clear()
            self._defaults = defaults
        common = common or self.common(pod)
        key = common.key
        known = self._asks.get(key) if key else None
        if known is None:
            known = parse_pod(common.part, self._names, defaults), self.stages(common)
            if len(self._asks) >= MOST:
                self._asks.clear()
            if key:
                self._asks[key] = known
        meta = at(pod, "metadata")
        name, uid = meta.get("name") or meta.get("generateName") or "", meta.get("uid") or ""
        return replace(known[0], name=str(name), uid=str(uid)), known[1]


def _digest(value: object) -> bytes | None:
    """None for what JSON does not have, and a file may hold."""
    try:
        return blake2b(orjson.dumps(value), digest_size=16).digest()
    except TypeError:
        return None


def common_part(pod: Json) -> dict[str, Any]:
    """A pod without what makes it differ from the others of its template."""
    meta, spec, status = at(pod, "metadata"), at(pod, "spec"), at(pod, "status")
    slim = {key: value for key, value in spec.items() if key not in OWN_SPEC}
    for key in CONTAINERS:
        if isinstance(listed := slim.get(key), list):
            slim[key] = [_without_mounts(each) for each in listed]
    labels, notes = meta.get("labels"), meta.get("annotations")
    return {
        "metadata": {
            "namespace": meta.get("namespace"),
            "labels": {key: value for key, value in labels.items() if key not in _OWN_LABELS}
            if isinstance(labels, dict)
            else {},
            "annotations": {key: value for key, value in notes.items() if not str(key).startswith(_OWN_NOTES)}
            if isinstance(notes, dict)
            else {},
            "ownerReferences": meta.get("ownerReferences"),
        },
        "spec": slim,
        "status": _resized(status) if status else status,
    }


def read(part: Json, held: frozenset[str], vendors: tuple[Vendor, ...]) -> Template:
    """What cannot be read counts as nothing, and `problems` says so."""
    meta, spec = part["metadata"], part["spec"]
    problems = []
    cpu = memory = 0
    gang, reach = None, ANY_CARD
    try:
        cpu, memory = effective_requests(spec, part["status"])
        gang = gang_of(meta, spec)[0]
    except WireError as error:
        problems.append(str(error))
    try:
        reach = reach_of(part, (vendor.words for vendor in vendors if vendor.name in held)) if held else ANY_CARD
    except WireError as error:
        problems.append(str(error))
    chosen = parse_chosen(at(meta, "annotations"))
    return Template(
        cpu_milli=cpu,
        memory_mib=memory,
        gang=gang,
        kind=chosen.kind if chosen else "",
        priority=int(spec.get("priority") or 0),
        traits=traits_of(spec),
        subject=subject_of(part) if held else NO_SUBJECT,
        reach=reach,
        part=part_of(meta),
        problems=tuple(problems),
    )


def _without_mounts(container: object) -> object:
    """The API server mounts a volume of a random name into each container."""
    if not isinstance(container, dict) or "volumeMounts" not in container:
        return container
    return {key: value for key, value in container.items() if key != "volumeMounts"}


def _resized(status: Json) -> dict[str, Any]:
    """What the kubelet says of CPU and memory that were changed in place."""
    found: dict[str, Any] = {}
    for part in _STATUSES:
        if part in status and (statuses := items_at(status, part)):
            found[part] = [{key: each.get(key) for key in _RESIZED} for each in statuses]
    conditions = items_at(status, "conditions") if "conditions" in status else ()
    if pending := [each for each in conditions if each.get("type") == "PodResizePending"]:
        found["conditions"] = pending
    return found
