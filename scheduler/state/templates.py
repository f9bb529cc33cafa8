"""What pods of one template have in common, read once: a cluster of 40,000 pods has a few hundred templates.

The key is all of a pod but the parts that differ from pod to pod and that nothing here reads. So a field that somebody
reads later is in the key already.
"""

from dataclasses import dataclass, field, replace
from typing import Any
from zlib import compress, decompress

import orjson

from kerf.values.ask import PodAsk, Reach, Stages
from kerf.values.policy import Defaults
from kerf.values.quick import quick
from kerf.values.subject import NO_SUBJECT, Subject
from kerf.values.traits import Traits
from kerf.values.vendor import Vendor, words_of
from kerf.wire.accepts import parse_chosen
from kerf.wire.annotations import GRANT
from kerf.wire.errors import WireError
from kerf.wire.fleet_places import part_of
from kerf.wire.gangs import gang_of
from kerf.wire.json import EMPTY, Json, at, items_at
from kerf.wire.resources import effective_requests, parse_pod, reach_of, stages_of
from kerf.wire.subject import subject_of
from kerf.wire.traits import traits_of
from scheduler.state.fleet import ANY_CARD

NAMELESS = "Pod/"
"""The workload of a pod that nothing controls, without the pod's name."""
MOST, KNOWN = 4_000_000, 1_000
"""Bytes of the templates that are remembered, and those that each takes beside its own text."""
_OWN_LABELS = (
    "apps.kubernetes.io/pod-index",
    "statefulset.kubernetes.io/pod-name",
    "batch.kubernetes.io/job-completion-index",
)
_OWN_NOTES = (GRANT, "cni.projectcalico.org/", "k8s.v1.cni.cncf.io/", "k8s.ovn.org/", "ovn.kubernetes.io/")
OWN_SPEC = ("nodeName", "volumes", "hostname")
"""Parts of a PodSpec in which pods of one template may differ."""
_MOUNTS = ("volumeMounts",)
"""The API server mounts a volume of a random name into each container."""
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


Parts = tuple[object, Json, Json, object, Json, Json]
"""What is common to the pods of a template: namespace, labels, annotations, owners, spec and status."""


@dataclass(slots=True)
class _Known:
    """What was read of one template so far."""

    small: bytes = b""
    """Its text, compressed, once a pod of it waits."""
    stages: Stages | None = None
    asked: tuple[Defaults, PodAsk] | None = None
    by_vendors: dict[frozenset[str], Template] = field(default_factory=dict)
    prefers: bool | None = None
    """Whether kube-scheduler may have something to weigh for its pods."""


@quick
@dataclass(frozen=True, slots=True)
class Common:
    """A pod without what makes it differ from the others of its template, and what is known of that."""

    parts: Parts
    known: _Known
    text: bytes = b""
    """The parts as JSON, empty where JSON does not have them."""

    @property
    def part(self) -> dict[str, Any]:
        """That pod."""
        return _pod_of(self.parts)


class Templates:
    """The templates of pods, for one list of vendors."""

    def __init__(self, vendors: tuple[Vendor, ...]) -> None:
        self._vendors = vendors
        self._names = words_of(vendors)
        self._known: dict[bytes, _Known] = {}
        self._left = MOST

    def common(self, pod: Json) -> Common:
        """What `of` and `stages` are asked about."""
        parts = _parts(pod)
        try:
            key = orjson.dumps(parts)
        except TypeError:  # JSON does not have it, and a file may hold it
            return Common(parts, _Known(prefers=True))
        known = self._known.get(key)
        if known is None:
            self._make_room(len(key))
            known = self._known[key] = _Known()
        return Common(parts, known, key)

    def of(self, common: Common, held: frozenset[str]) -> Template:
        """The template of a pod that holds cards of the vendors with these names."""
        templates = common.known.by_vendors
        if (known := templates.get(held)) is None:
            known = templates[held] = read(common.part, held, self._vendors)
        return known

    def stages(self, common: Common) -> Stages:
        """The pod's containers in order. Raises WireError."""
        if (known := common.known.stages) is None:
            known = common.known.stages = stages_of(common.parts[4])
        return known

    def ask_of(self, pod: Json, defaults: Defaults, common: Common | None = None) -> tuple[PodAsk, Stages]:
        """What a waiting pod asks, and its containers in order. Raises WireError."""
        common = common or self.common(pod)
        asked, stages = self._asked(common, defaults)
        meta = at(pod, "metadata")
        name, uid = meta.get("name") or meta.get("generateName") or "", meta.get("uid") or ""
        return replace(asked, name=str(name), uid=str(uid)), stages

    def small(self, common: Common) -> bytes:
        """What `ask_again` reads; one object for the pods of a template, empty for what JSON does not have."""
        if not common.known.small and common.text:
            common.known.small = compress(common.text, 1)
        return common.known.small

    def ask_again(self, small: bytes, pod: PodAsk, defaults: Defaults) -> tuple[PodAsk, Stages]:
        """What a waiting pod asks that was read with other defaults. Raises WireError."""
        text = decompress(small)
        known = self._known.get(text)
        if known is not None and known.asked is not None and known.asked[0] == defaults and known.stages is not None:
            asked, stages = known.asked[1], known.stages
        else:
            asked, stages = self._asked(Common(tuple(orjson.loads(text)), known or _Known()), defaults)
        return replace(asked, name=pod.name, uid=pod.uid), stages

    def _asked(self, common: Common, defaults: Defaults) -> tuple[PodAsk, Stages]:
        asked = common.known.asked
        if asked is None or asked[0] != defaults:
            asked = common.known.asked = defaults, parse_pod(common.part, self._names, defaults)
        return asked[1], self.stages(common)

    def _make_room(self, size: int) -> None:
        """For one more of this size: all others are forgotten where that is too much."""
        self._left -= size + KNOWN
        if self._left < 0:
            self._known.clear()
            self._left = MOST - size - KNOWN


def template_of(ask: PodAsk) -> Template:
    """What a waiting pod says, as its ask has it."""
    return Template(
        cpu_milli=ask.cpu_milli,
        memory_mib=ask.memory_mib,
        gang=ask.gang,
        kind=ask.chosen.kind if ask.chosen else "",
        priority=ask.priority,
        traits=ask.traits,
        subject=NO_SUBJECT,
        reach=ask.reach,
        part=ask.part,
    )


def _parts(pod: Json) -> Parts:
    """A pod without what makes it differ from the others of its template."""
    meta, status = at(pod, "metadata"), at(pod, "status")
    spec = _without(at(pod, "spec"), OWN_SPEC)
    for key in CONTAINERS:
        if isinstance(listed := spec.get(key), list):
            spec[key] = [_without(each, _MOUNTS) if isinstance(each, dict) else each for each in listed]
    labels, notes = meta.get("labels"), meta.get("annotations")
    return (
        meta.get("namespace"),
        _without(labels, _OWN_LABELS) if isinstance(labels, dict) else EMPTY,
        {key: value for key, value in notes.items() if not str(key).startswith(_OWN_NOTES)}
        if isinstance(notes, dict)
        else EMPTY,
        meta.get("ownerReferences"),
        spec,
        _resized(status) if status else status,
    )


def _pod_of(parts: Parts) -> dict[str, Any]:
    namespace, labels, notes, owners, spec, status = parts
    meta = {"namespace": namespace, "labels": labels, "annotations": notes, "ownerReferences": owners}
    return {"metadata": meta, "spec": spec, "status": status}


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


def _without(value: Json, keys: tuple[str, ...]) -> dict[str, Any]:
    """A copy without some keys."""
    copy = dict(value)
    for key in keys:
        copy.pop(key, None)
    return copy


def _resized(status: Json) -> dict[str, Any]:
    """What the kubelet says of CPU and memory that were changed in place."""
    found: dict[str, Any] = {key: status[key] for key in _RESIZED[1:] if key in status}
    for part in _STATUSES:
        if part in status and (statuses := items_at(status, part)):
            found[part] = [{key: each.get(key) for key in _RESIZED} for each in statuses]
    conditions = items_at(status, "conditions") if "conditions" in status else ()
    if pending := [each for each in conditions if each.get("type") == "PodResizePending"]:
        found["conditions"] = pending
    return found
