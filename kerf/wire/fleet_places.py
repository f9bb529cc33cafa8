"""`kind: FleetPlaces` (kerf.dev/v1alpha1): the cards that a fleet's plan has for one part of a workload in a cluster.

The fleet's manager writes it there before the part's pods exist, and that cluster's scheduler reads it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kerf.values.fleet import PartPlaces, PlannedPlace
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION, check_kind, flag, list_at, object_at, text, whole
from kerf.wire.fleet import LABEL_EPOCH, LABEL_MANAGER, LABEL_MODEL, LABEL_WORKLOAD, MOST_REPLICAS
from kerf.wire.json import Json, at

KIND = "FleetPlaces"
FLEET_PLACES = f"/apis/{API_VERSION}/fleetplaces"
MOST_PLACES = 5_000
"""Places in one object, which etcd takes; pods beyond them are placed as any others."""
MOST_CARDS = 64
MARKS = (LABEL_MANAGER, LABEL_WORKLOAD, LABEL_EPOCH, LABEL_MODEL)
"""The labels by which a pod and the list of its part belong together."""


def part_of(meta: Json) -> str:
    """The part of a fleet's workload that an object or a pod belongs to; empty where it belongs to none."""
    labels = at(meta, "labels")
    marks = [labels.get(key) for key in MARKS]
    return ".".join(str(mark)[:63] for mark in marks) if all(marks) else ""


def parse_places(document: object) -> PartPlaces:
    """A part's places in order. Raises WireError that names the field, the value and the fix."""
    top = object_at(document, KIND)
    check_kind(top, KIND)
    meta, spec = object_at(top.get("metadata") or {}, "metadata"), object_at(top.get("spec") or {}, "spec")
    part = part_of(meta)
    if not part:
        raise WireError("metadata.labels", dict(at(meta, "labels")), f"write all of {', '.join(MARKS)}")
    listed = list_at(spec.get("places"), "spec.places")
    places = tuple(_place(item, f"spec.places[{i}]") for i, item in enumerate(listed[:MOST_PLACES]))
    return PartPlaces(part, places, flag(spec, "afterPreferences", "spec", False))


def _place(item: object, where: str) -> PlannedPlace:
    found = object_at(item, where)
    cards = list_at(found.get("cards"), f"{where}.cards")
    if not 0 < len(cards) <= MOST_CARDS or not all(isinstance(card, str) and card for card in cards):
        raise WireError(f"{where}.cards", cards, f"list 1 to {MOST_CARDS} ids of cards")
    pods = whole(found, "pods", where, 1, (1, MOST_REPLICAS))
    return PlannedPlace(text(found, "node", where, None), tuple(sorted(set(cards))), pods)


def render_places(
    meta: Mapping[str, Any], replicas: int, places: Sequence[PlannedPlace], *, after_preferences: bool = False
) -> dict[str, Any]:
    """The object to apply; `replicas` says for how many the places were planned."""
    written = [{"node": each.node, "cards": list(each.cards), "pods": each.pods} for each in places[:MOST_PLACES]]
    spec = {"replicas": replicas, "places": written, **({"afterPreferences": True} if after_preferences else {})}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": dict(meta), "spec": spec}
