"""Kubernetes nodes and pods, as raw JSON, to values. The only place that knows which field has which fact."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kerf.values.ask import Stages
from kerf.values.device import BY_INDEX, Card
from kerf.values.grant import Grant, Holding
from kerf.values.health import Health, State
from kerf.values.node import Node, Taint
from kerf.values.recorded import Record
from kerf.values.units import milli, parse_whole, to_mib
from kerf.values.vendor import Vendor, recorded_grant, sliced
from kerf.wire import annotations as ours
from kerf.wire import hami, inventory
from kerf.wire.container_asks import amounts_of
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.resources import stages_of

OF_HAMIS_PLUGIN = Health(State.SUSPECT, "its device plugin is still HAMi's")
"""The health of a card that only HAMi has listed: nothing of Kerf's is placed there."""
FINISHED = frozenset({"Succeeded", "Failed"})
"""Phases of a pod that has given back what it held."""
_BLOCKING = ("NoSchedule", "NoExecute")
CardsOf = Callable[[str], Iterable[Card]]
"""The cards of a node by its name; none of an unknown one."""


def parse_node(node: Json, vendors: tuple[Vendor, ...]) -> Node:
    """A node with its cards. Never raises: what cannot be read becomes the node's `problem`, and no cards.

    A vendor's inventory that cannot be read leaves the other vendors' cards as they are.
    """
    meta, spec, status = at(node, "metadata"), at(node, "spec"), at(node, "status")
    notes = at(meta, "annotations")
    allocatable = at(status, "allocatable")
    cards: tuple[Card, ...] = ()
    problem = ""
    cpu = memory = 0
    try:
        cards, problem = _cards(node, notes, vendors)
        cards = sliced(cards, _by_name(_Vendors(vendors)))
        cpu, memory = milli(allocatable.get("cpu", 0)), to_mib(allocatable.get("memory", 0)) if allocatable else 0
    except (ValueError, RecursionError) as error:
        problem, cards = str(error), ()
    name = meta.get("name")
    return Node(
        name=name if isinstance(name, str) else "",
        cards=cards,
        cpu_milli=cpu,
        memory_mib=memory,
        labels=tuple(sorted((str(k), str(v)) for k, v in at(meta, "labels").items())),
        cordoned=cordoned_cards(notes),
        schedulable=not spec.get("unschedulable"),
        ready=_ready(status),
        taints=_taints(spec.get("taints")),
        avoided=_avoided(spec.get("taints")),
        problem=problem,
        fault_cordoned=_ids(notes, ours.FAULT_CORDON),
        resumed=_seconds(notes.get(ours.RESUME)),
    )


def cordoned_cards(notes: Json) -> tuple[str, ...]:
    """Ids of a node's cards that a person or Kerf cordoned, by the node's annotations."""
    return _ids(notes, *ours.CORDON, ours.FAULT_CORDON)


def is_finished(pod: Json) -> bool:
    """Whether a pod has run to its end, so that it holds nothing any more."""
    status = pod.get("status")
    phase = status.get("phase") if isinstance(status, dict) else None
    return isinstance(phase, str) and phase in FINISHED


def no_cards(_node: str) -> tuple[Card, ...]:
    """Where no node is known."""
    return ()


def cards_of(nodes: Iterable[Node]) -> CardsOf:
    """The cards of these nodes."""
    found = {node.name: node.cards for node in nodes}
    return lambda name: found.get(name, ())


def parse_holding(
    pod: Json,
    vendors: tuple[Vendor, ...],
    cards: CardsOf = no_cards,
    read_stages: Callable[[Json], Stages] = stages_of,
) -> Holding | None:
    """What a live pod holds, None if it holds nothing or is finished.

    A grant counts only on a pod that is bound (`spec.nodeName`): the Binding writes both at once, so a grant
    without a node is a forgery. HAMi's record counts only where there is no Kerf grant; what it means depends on the
    node's cards. `read_stages` reads the pod's spec as `stages_of` does. Raises WireError.
    """
    try:
        return _holding(pod, vendors, cards, read_stages)
    except RecursionError as error:  # a text was expected and something too deep to print was sent
        raise WireError("pod", "…", "nest its values less deeply") from error


def _holding(
    pod: Json, vendors: tuple[Vendor, ...], cards: CardsOf, read_stages: Callable[[Json], Stages]
) -> Holding | None:
    meta, spec = at(pod, "metadata"), at(pod, "spec")
    node = spec.get("nodeName")
    if not node or is_finished(pod):
        return None
    notes, where = at(meta, "annotations"), str(node)
    stages = read_stages(spec)
    if ours.GRANT in notes:
        grant = ours.parse_grant(str(notes[ours.GRANT]), vendors[0].name)
    else:
        record = parse_record(pod, vendors)
        grant = recorded_grant(record, vendors, cards(where)) if record else Grant()
    if not grant:
        return None
    pod_key = f"{meta.get('namespace') or 'default'}/{meta.get('name', '')}"
    return Holding(pod_key, str(meta.get("uid", "")), where, grant, stages)


def parse_record(pod: Json, vendors: tuple[Vendor, ...]) -> Record:
    """What HAMi recorded of a live pod that it bound; nothing where Kerf has granted. Raises WireError."""
    notes = at(pod, "metadata", "annotations")
    if ours.GRANT in notes or hami.NODE not in notes:
        return ()
    spec = at(pod, "spec")
    node = spec.get("nodeName")
    if not node or notes.get(hami.NODE) != node or is_finished(pod):
        return ()
    if not _asks_for_devices(spec):
        return ()  # what HAMi's annotations say of a pod without devices is forged or left over
    stages = stages_of(spec)
    return tuple(
        part
        for vendor in vendors
        if vendor.hami_allocated and vendor.hami_allocated in notes
        for part in hami.parse_allocated(
            str(notes[vendor.hami_allocated]), vendor.hami_allocated, vendor.words, stages, _group(notes, vendor)
        )
    )


def _group(notes: Json, vendor: Vendor) -> str:
    with suppress(ValueError):
        return vendor.words.group_of(notes)
    return ""


def cards_without_grant(pod: Json, vendors: tuple[Vendor, ...]) -> int:
    """How many cards a running pod holds of which no record says which they are; 0 for every other pod.

    Such pods started under another device plugin, or are static: Kerf's plugin starts nothing without a grant.
    """
    notes = at(pod, "metadata", "annotations")
    if ours.GRANT in notes or text_at(pod, "status", "phase") != "Running" or not text_at(pod, "spec", "nodeName"):
        return 0
    if any(vendor.hami_allocated in notes for vendor in vendors):
        return 0
    ours_to_serve = [vendor for vendor in vendors if vendor.probe]
    return sum(_counted(amounts, vendor) for amounts in _amounts_of(at(pod, "spec")) for vendor in ours_to_serve)


def _counted(amounts: Json, vendor: Vendor) -> int:
    """Cards of one vendor among a container's resources, under whatever name a device plugin offers them."""
    words = vendor.words
    ignored = {words.memory, words.memory_percent, words.cores, words.priority}
    others = f"{words.domain}/mig-"  # parts of cards in MIG mode, which another plugin serves
    names = [n for n in amounts if n.startswith(f"{words.domain}/") and n not in ignored and not n.startswith(others)]
    found = 0
    for name in names:
        try:
            found += parse_whole(amounts[name])
        except ValueError:
            found += 1
    return found


def _asks_for_devices(spec: Json) -> bool:
    """Whether a container names an extended resource."""
    return any("/" in name for amounts in _amounts_of(spec) for name in amounts)


def _amounts_of(spec: Json) -> Iterator[Json]:
    for container in (*items_at(spec, "containers"), *items_at(spec, "initContainers")):
        yield amounts_of(container)


def render_eviction(namespace: str, name: str, uid: str) -> dict[str, Any]:
    """The Eviction to POST to a pod's `eviction` subresource; budgets hold, a namesake of another uid is safe."""
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }


def _cards(node: Json, notes: Json, vendors: tuple[Vendor, ...]) -> tuple[tuple[Card, ...], str]:
    """The cards of every vendor whose inventory can be read, and why others cannot."""
    found: dict[str, Card] = {}
    problems, several = [], 0
    for vendor in _publishing(notes, at(node, "status", "capacity"), vendors):
        try:
            key, cards = _published(node, notes, vendor)
            found |= {card.id: card for card in _once(cards, found, key)}
        except (ValueError, RecursionError) as error:
            problems.append(str(error))
            continue
        several += bool(key)
    cards = tuple(found.values())
    in_order = tuple(sorted(cards, key=BY_INDEX)) if several > 1 else cards
    return in_order, "; ".join(problems)


def _publishing(notes: Json, capacity: Json, vendors: tuple[Vendor, ...]) -> Iterable[Vendor]:
    """The vendors of which a node has one of the keys, in their order."""
    by_key = _by_key(_Vendors(vendors))
    found = {i for key in (*notes, *capacity) for i in by_key.get(key, ())}
    return [vendors[i] for i in sorted(found)]


class _Vendors:
    """A tuple of vendors as a key that costs nothing: the very same ones are equal."""

    def __init__(self, vendors: tuple[Vendor, ...]) -> None:
        self.all = vendors

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Vendors) and self.all is other.all

    def __hash__(self) -> int:
        return id(self.all)


@lru_cache(maxsize=8)
def _by_name(vendors: _Vendors) -> dict[str, Vendor]:
    return {vendor.name: vendor for vendor in vendors.all}


@lru_cache(maxsize=8)
def _by_key(vendors: _Vendors) -> dict[str, tuple[int, ...]]:
    """The places of the vendors that look for an annotation, or for a resource among a node's capacity."""
    found: dict[str, tuple[int, ...]] = {}
    for i, vendor in enumerate(vendors.all):
        for key in {vendor.inventory_key, vendor.hami_register, *(vendor.plugin.keys if vendor.plugin else ())}:
            found[key] = (*found.get(key, ()), i)
    return found


def _published(node: Json, notes: Json, vendor: Vendor) -> tuple[str, tuple[Card, ...]]:
    """Where a vendor's cards are published, by Kerf's plugin, the vendor's or HAMi's, and the cards. Raises WireError.

    The key is empty where nothing publishes any.
    """
    key, register, plugin = vendor.inventory_key, vendor.hami_register, vendor.plugin
    if key in notes:
        return key, inventory.parse_inventory(str(notes[key]), key, vendor.name)
    if register and register in notes:
        cards = hami.parse_register(str(notes[register]), register, vendor.name)
        # Kerf's own plugin serves such cards, and a grant means nothing to another
        return register, tuple(replace(card, health=OF_HAMIS_PLUGIN) for card in cards) if vendor.probe else cards
    capacity = at(node, "status", "capacity")
    if plugin and any(word in notes or word in capacity for word in plugin.keys):
        return plugin.keys[0], plugin.cards(node)
    return "", ()


def _once(cards: tuple[Card, ...], known: Mapping[str, Card], key: str) -> tuple[Card, ...]:
    """The cards, of which none may be another vendor's too. Raises WireError.

    A plugin that was replaced by one of another vendor's words leaves its cards behind and offers none: they are those
    of the plugin that offers some.
    """
    twice = {card.id for card in cards} & known.keys()
    if not twice:
        return cards
    both = sorted(card.id for card in cards if card.id in twice and card.healthy and known[card.id].healthy)
    if both:
        raise WireError(key, both[0], "give every card its own id: another vendor's inventory has this one too")
    return tuple(card for card in cards if card.id not in twice or card.healthy)


def _taints(value: object) -> tuple[Taint, ...]:
    """Those that keep pods away; what is no taint is none."""
    items = [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
    return tuple(
        Taint(str(item.get("key", "")), str(item.get("value") or ""), str(item["effect"]))
        for item in items
        if item.get("effect") in _BLOCKING
    )


def _avoided(value: object) -> bool:
    return isinstance(value, list) and any(at(item).get("effect") == "PreferNoSchedule" for item in value)


def _ids(notes: Json, *keys: str) -> tuple[str, ...]:
    """The ids in comma lists, sorted."""
    if not any(map(notes.get, keys)):
        return ()
    return tuple(sorted({word.strip() for key in keys for word in str(notes.get(key) or "").split(",")} - {""}))


def _seconds(value: object) -> int:
    text = str(value or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _ready(status: Json) -> bool:
    """A node that says nothing of itself (a file's) counts as ready."""
    conditions = status.get("conditions")
    said = (
        [c.get("status") for c in conditions if isinstance(c, Mapping) and c.get("type") == "Ready"]
        if isinstance(conditions, list)
        else []
    )
    return all(word == "True" for word in said)
