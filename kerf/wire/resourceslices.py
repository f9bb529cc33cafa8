"""ResourceSlices of the driver gpu.kerf.dev, written and compared as raw JSON.

A card is two devices: one that many claims share by memory, cores and slots, and one that is the whole card. A counter
of 1 for each card lets the allocator give either to claims, never both. A card in MIG mode is a device for each place
where an instance may lie, with a counter for each memory slice of the card. Kubernetes before 1.36 knows neither shares
nor counters, so there a card is the whole card alone, and one in MIG mode is none.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from kerf.values.mig import start_of
from kerf.values.offer import OfferedCard, most_of
from kerf.values.slicing import WHOLE, free_places
from kerf.values.units import parse_quantity
from kerf.wire.devices import (
    CORES,
    DRIVER,
    MEMORY,
    SLOTS,
    attribute_text,
    partition_device,
    slice_device,
    whole_device,
)
from kerf.wire.json import Json, at, items_at, text_at

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
API = "resource.k8s.io/v1"
CARDS_A_SLICE = 32
"""Two devices a card, and 64 devices with taints or counters a slice."""
COUNTERS_A_SET = 32
SETS, DEVICES = 8, 64
"""Of counters, and of devices with counters, in one slice."""
_LONGEST_NAME = 253


def slice_path(name: str) -> str:
    """One ResourceSlice."""
    return f"{SLICES}/{name}"


def render_pool(node: str, uid: str, cards: Iterable[OfferedCard], *, shares: bool) -> tuple[dict[str, Any], ...]:
    """The slices of a node's pool without generation and count. The allocator takes the first card with room."""
    offers = list(cards)
    listed = [each for each in offers if each.card.mig is None and (shares or not each.taints)]
    divided = [each for each in offers if each.card.mig is not None] if shares else []
    chunks = [listed[i : i + CARDS_A_SLICE] for i in range(0, len(listed), CARDS_A_SLICE)]
    counters = _counters(listed) if shares else {}
    sets = [*_counter_sets(counters), *sorted(map(_memory_slices, divided), key=lambda each: str(each["name"]))]
    specs: list[dict[str, Any]] = [{"sharedCounters": sets[i : i + SETS]} for i in range(0, len(sets), SETS)]
    specs += [{"devices": _devices(chunk, counters, shares)} for chunk in chunks]
    specs += [{"devices": chunk} for chunk in _packed(map(_partitions, divided))]
    if not chunks and not divided:
        specs.append({"devices": []})
    return tuple(_slice(node, uid, i, spec) for i, spec in enumerate(specs))


def numbered(slices: tuple[dict[str, Any], ...], generation: int) -> tuple[dict[str, Any], ...]:
    """The slices with their pool's generation and their number."""
    pool = {"generation": generation, "resourceSliceCount": len(slices)}
    return tuple({**s, "spec": {**s["spec"], "pool": {**s["spec"]["pool"], **pool}}} for s in slices)


def generation_of(item: Json) -> int:
    """The generation of a stored slice's pool."""
    found = at(item, "spec", "pool").get("generation")
    return found if isinstance(found, int) else 0


def is_ours(item: Json, node: str) -> bool:
    """Whether a stored slice is one of this node's pool."""
    spec = at(item, "spec")
    return (text_at(spec, "driver"), text_at(spec, "nodeName")) == (DRIVER, node)


def same_content(stored: Json, wanted: Json) -> bool:
    """Whether a stored slice says what is wanted, apart from generation and count.

    The API server writes quantities in its own way and adds the time to taints, so both are read first.
    """
    return _content(stored) == _content(wanted)


def with_times(wanted: Json, stored: Json) -> dict[str, Any]:
    """The wanted slice with the times at which its taints were added, where the stored one has them already."""
    times = {
        (text_at(device, "name"), *(str(t.get(key) or "") for key in ("key", "value", "effect"))): text_at(
            t, "timeAdded"
        )
        for device in items_at(stored, "spec", "devices")
        for t in items_at(device, "taints")
    }

    def keep(device: Json) -> dict[str, Any]:
        taints = []
        for t in items_at(device, "taints"):
            time = times.get((text_at(device, "name"), *(str(t.get(key) or "") for key in ("key", "value", "effect"))))
            taints.append({**t, "timeAdded": time} if time else dict(t))
        return {**device, "taints": taints} if taints else dict(device)

    spec = at(wanted, "spec")
    devices = {"devices": [keep(device) for device in items_at(spec, "devices")]} if "devices" in spec else {}
    return {**wanted, "spec": {**spec, **devices}}


def shares_kept(stored: Json) -> bool:
    """Whether the API server kept what slices need; one with the features off drops those fields in silence."""
    devices = items_at(stored, "spec", "devices")
    shared = (device for device in devices if text_at(device, "name").startswith("gpu"))
    return all("allowMultipleAllocations" in one for one in shared) and all("consumesCounters" in d for d in devices)


def _slice(node: str, uid: str, index: int, spec: dict[str, Any]) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
    return {
        "apiVersion": API,
        "kind": "ResourceSlice",
        "metadata": {"name": _name(node, index), "ownerReferences": [owner]},
        "spec": {"driver": DRIVER, "nodeName": node, "pool": {"name": node}, **spec},
    }


def _name(node: str, index: int) -> str:
    """A name that sorts by the index. That of a node with a long name ends with a digest of it."""
    name = f"{index:02x}-{DRIVER}-{node}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - len(digest) - 1].rstrip('-.')}-{digest}"


def _counters(cards: list[OfferedCard]) -> dict[str, str]:
    """The counter set of each card. It depends on the cards that are there, not on their order."""
    ids = sorted(offered.card.id for offered in cards)
    return {card: f"cards-{i // COUNTERS_A_SET}" for i, card in enumerate(ids)}


def _counter_sets(counters: dict[str, str]) -> list[dict[str, Any]]:
    sets: dict[str, dict[str, Any]] = {}
    for card, name in counters.items():
        sets.setdefault(name, {})[slice_device(card)] = {"value": "1"}
    return [{"name": name, "counters": values} for name, values in sorted(sets.items())]


def _memory_slices(offered: OfferedCard) -> dict[str, Any]:
    """The counter set of a card in MIG mode. It says what the card has, whatever is held of it."""
    profiles = offered.card.mig.plain if offered.card.mig else ()
    eighths = max((start + profile.size for profile in profiles for start in profile.starts), default=0)
    counters = {f"memory-slice-{i}": {"value": "1"} for i in range(eighths)}
    return {"name": slice_device(offered.card.id), "counters": counters}


def _partitions(offered: OfferedCard) -> list[dict[str, Any]]:
    """A device for each place where an instance may lie beside those of others.

    The smallest come first, and of each size the place that spoils least beside what is held.
    """
    card, devices = offered.card, []
    for size in getattr(card.slicing, "offers", ()):
        profile = card.mig.profile_of(size.memory_mib, size.cores) if card.mig else None
        free = free_places(size, card, offered.places)
        for place in (*free, *(each for each in size.places if each not in free)):
            start = start_of(place.adds)
            name = partition_device(card.id, profile.id, start) if profile else ""
            if profile and name:
                taken = {f"memory-slice-{i}": {"value": "1"} for i in range(start, start + profile.size)}
                consumes = [{"counterSet": slice_device(card.id), "counters": taken}]
                attributes = _attributes(offered, "mig") | {"profile": {"string": profile.name}}
                amounts = {MEMORY: {"value": f"{size.memory_mib}Mi"}, CORES: {"value": str(size.cores)}}
                common = _common(offered, {}) | {"consumesCounters": consumes}
                devices.append({"name": name, "attributes": attributes, "capacity": amounts} | common)
    return devices


def _packed(groups: Iterable[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The devices of cards in as few slices as their order allows; those of one card may lie in two."""
    devices = [device for group in groups for device in group]
    return [devices[i : i + DEVICES] for i in range(0, len(devices), DEVICES)]


def _devices(cards: list[OfferedCard], counters: dict[str, str], shares: bool) -> list[dict[str, Any]]:
    """All shared devices come first: a class that names neither kind gets slices while there is one."""
    whole = [_whole(offered) | _common(offered, counters) for offered in cards]
    return [_shared(offered) | _common(offered, counters) for offered in cards] + whole if shares else whole


def _common(offered: OfferedCard, counters: dict[str, str]) -> dict[str, Any]:
    card, out = offered.card, dict[str, Any]()
    if card.id in counters:
        out["consumesCounters"] = [
            {"counterSet": counters[card.id], "counters": {slice_device(card.id): {"value": "1"}}}
        ]
    if offered.taints:
        out["taints"] = [
            {"key": t.key, "effect": t.effect} | ({"value": t.value} if t.value else {}) for t in offered.taints
        ]
    return out


def _shared(offered: OfferedCard) -> dict[str, Any]:
    card = offered.card
    most_mib, most_cores = most_of(card)
    return {
        "name": slice_device(card.id),
        "allowMultipleAllocations": True,
        "attributes": _attributes(offered, "slice"),
        "capacity": {
            MEMORY: {
                "value": f"{card.memory_mib}Mi",
                "requestPolicy": {
                    "default": f"{min(offered.default_mib, most_mib)}Mi",
                    "validRange": {"min": "1Mi", "step": "1Mi", "max": f"{most_mib}Mi"},
                },
            },
            CORES: {
                "value": str(card.cores),
                "requestPolicy": {
                    "default": str(min(offered.default_cores, most_cores)),
                    "validRange": {"min": "0", "step": "1", "max": str(most_cores)},
                },
            },
            SLOTS: {"value": str(card.slots), "requestPolicy": {"default": "1", "validValues": ["1"]}},
        },
    }


def _whole(offered: OfferedCard) -> dict[str, Any]:
    card = offered.card
    return {
        "name": whole_device(card.id),
        "attributes": _attributes(offered, "card"),
        "capacity": {MEMORY: {"value": f"{card.factory_memory_mib}Mi"}, CORES: {"value": str(WHOLE)}},
    }


def _attributes(offered: OfferedCard, kind: str) -> dict[str, Any]:
    card = offered.card
    texts = {
        "kind": kind,
        "uuid": card.id,
        "model": card.model,
        "vendor": card.vendor,
        "bus": card.bus,
        "driver": card.driver,
    }
    out: dict[str, Any] = {key: {"string": attribute_text(text)} for key, text in texts.items() if text}
    return out | {
        "numa": {"int": card.numa},
        "index": {"int": card.index},
        "mig": {"bool": card.mig is not None},
        "nvlink": {"bool": bool(card.links)},
    }


def _content(item: Json) -> object:
    spec = at(item, "spec")
    names = [text_at(owner, "uid") for owner in items_at(item, "metadata", "ownerReferences")]
    devices = [_plain({**device, "taints": _taints(device)}) for device in items_at(spec, "devices")]
    return (
        names,
        text_at(spec, "driver"),
        text_at(spec, "nodeName"),
        devices,
        _plain(spec.get("sharedCounters") or []),
    )


def _taints(device: Json) -> list[Json]:
    return [{key: t[key] for key in ("key", "value", "effect") if t.get(key)} for t in items_at(device, "taints")]


_AMOUNTS = frozenset({"value", "default", "min", "max", "step", "validValues"})


def _plain(value: object, key: str = "") -> object:
    """The value with every quantity as a number, so that 81920Mi and 80Gi are the same."""
    if isinstance(value, dict):
        return {name: _plain(part, str(name)) for name, part in value.items() if part not in ([], None)}
    if isinstance(value, list):
        return [_plain(part, key) for part in value]
    return _number(value) if key in _AMOUNTS and isinstance(value, str) else value


def _number(text: str) -> object:
    try:
        return parse_quantity(text)
    except ValueError:
        return text
