"""Claims, their templates and DeviceClasses among files: what workloads ask for by them, and claims by themselves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kerf.values.fleet import FleetWorkload
from kerf.wire.claim_requests import Classes, known_classes
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerfctl.workloads.kinds import MAKERS, group_kind
from kerfctl.workloads.replica import named
from scheduler.fleet.claims import Claimable, with_claims

_GROUP = "resource.k8s.io"
_Named = Mapping[tuple[str, str], Json]
"""Objects by namespace and name."""


@dataclass(frozen=True, slots=True)
class FiledClaims:
    """What the files have of the group resource.k8s.io."""

    templates: _Named
    claims: _Named
    classes: Classes

    @classmethod
    def of(cls, items: Sequence[tuple[str, Json]]) -> "FiledClaims":
        """Read the classes; the rest is read where it is asked for, the selectors of the classes, too."""
        classes = known_classes(item for _, item in items if group_kind(item) == (_GROUP, "DeviceClass"))
        found = {
            kind: {_key(item): item for _, item in items if group_kind(item) == (_GROUP, kind)}
            for kind in ("ResourceClaimTemplate", "ResourceClaim")
        }
        return cls(found["ResourceClaimTemplate"], found["ResourceClaim"], classes)

    def asked_by(self, one: FleetWorkload, kind: str) -> FleetWorkload:
        """The workload with what its claims ask for. Raises WireError."""
        by_name = {name: item for (space, name), item in self.claims.items() if space == one.namespace}
        templates = {name: item for (space, name), item in self.templates.items() if space == one.namespace}
        claim = None if kind == "FleetWorkload" else by_name.get
        return with_claims(one, Claimable(templates.get, claim, self.classes))

    def alone(self, items: Iterable[Json]) -> tuple[list[FleetWorkload], list[str]]:
        """The claims that no pod of the files has or names, each as one replica, and a line for each that is not read.

        What a pod's template made belongs to that pod.
        """
        used = {(namespace, name) for item in items for namespace, name in _names(item)}
        found, left_out = [], []
        for (namespace, name), item in self.claims.items():
            if (namespace, name) in used or items_at(item, "metadata", "ownerReferences"):
                continue
            ref = {"name": "claim", "resourceClaimName": name}
            one = FleetWorkload(namespace, name, "", 1, {"spec": {"resourceClaims": [ref]}})
            try:
                found.append(self.asked_by(one, "ResourceClaim"))
            except WireError as error:
                left_out.append(f"not read: ResourceClaim {name}: {error}")
        return found, left_out


def _names(item: Json) -> Iterator[tuple[str, str]]:
    """The claims that the pods of an object name."""
    spec = at(item, "spec")
    if group_kind(item) in MAKERS:
        spec = at(spec, "template", "spec") or at(spec, "leaderWorkerTemplate", "workerTemplate", "spec")
    for ref in items_at(spec, "resourceClaims"):
        yield _key(item)[0], text_at(ref, "resourceClaimName")


def _key(item: Json) -> tuple[str, str]:
    return text_at(item, "metadata", "namespace") or "default", named(item)
