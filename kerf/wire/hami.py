"""HAMi's records on nodes and pods.

HAMi's own are read so that a cluster can move over or mix, and never written. Device plugins of other vendors than
NVIDIA know the same records: for them Kerf's scheduler writes what HAMi's would (HAMi 2.10.0, `pkg/device`).
"""

import json
from collections.abc import Iterable
from typing import Any

from kerf.values.ask import Stages
from kerf.values.device import BY_INDEX, Card, Mode
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.recorded import Device, Part, Record
from kerf.values.words import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.inventory import distinct

NODE = "hami.io/vgpu-node"
LOCK = "hami.io/mutex.lock"
_TIME, _PHASE, _BIND_TIME = "hami.io/vgpu-time", "hami.io/bind-phase", "hami.io/bind-time"
_MODES = {"": Mode.SHARED, "hami-core": Mode.SHARED, "mig": Mode.MIG, "mps": Mode.MPS}
_OURS = "nvidia"
"""Other vendors' plugins have words of their own for how they share a card ("hami"); they share it by themselves."""
MOST_CARDS = 256


def parse_register(text: str, key: str, vendor: str) -> tuple[Card, ...]:
    """Cards of a HAMi registration: JSON since 2.8 (zero values are omitted), a colon list before. Raises WireError."""
    records = parse_records(text, key)
    cards = tuple(_card(record, f"{key}[{i}]", vendor) for i, record in enumerate(records))
    return tuple(sorted(distinct(cards, key), key=BY_INDEX))


def parse_records(text: str, key: str) -> list[dict[str, Any]]:
    """A registration's records as they are, by the keys of the JSON form. Raises WireError."""
    records = _json_records(text, key) if text.lstrip().startswith("[") else _colon_records(text, key)
    if len(records) > MOST_CARDS:
        raise WireError(key, len(records), f"register at most {MOST_CARDS} cards")
    return records


def number_in(record: dict[str, Any], name: str, where: str, default: int) -> int:
    """A number of a record, in either form of a registration. Raises WireError."""
    return _number(record, name, where, default)


def numa_in(record: dict[str, Any], where: str) -> int:
    """The NUMA node of a record; the first where the kernel knows of none and says -1. Raises WireError."""
    return 0 if record.get("numa") in {-1, "-1"} else _number(record, "numa", where, 0)


def render_devices(containers: Iterable[Iterable[Device]]) -> str:
    """What the containers of a pod hold, init containers first: "id,type,MiB,cores:" a device, ";" a container."""
    return "".join(
        "".join(f"{card},{kind},{mib},{cores}:" for card, kind, mib, cores in devices) + ";" for devices in containers
    )


def bound_notes(node: str, seconds: int) -> dict[str, str]:
    """What every plugin of HAMi's kind reads of a pod that was bound at this time (Unix seconds)."""
    return {NODE: node, _TIME: str(seconds), _PHASE: "allocating", _BIND_TIME: str(seconds)}


def render_lock(key: str, stamp: str, namespace: str, name: str) -> str:
    """A node lock: "time,namespace,pod" for HAMi's plugins, the time alone for Cambricon's."""
    return f"{stamp},{namespace},{name}" if key == LOCK else stamp


def parse_lock(text: str) -> tuple[str, str, str]:
    """Since when a node is locked and for which pod; empty texts where the lock does not say."""
    parts = [*text.split(","), "", ""]
    return (parts[0], parts[1], parts[2]) if text.count(",") == 2 else (parts[0], "", "")


def parse_allocated(text: str, key: str, words: ResourceNames, stages: Stages, group: str = "") -> Record:
    """What `…-devices-allocated` records: "UUID,NVIDIA,MiB,cores:" per device, ";" after each container.

    HAMi 2.10 leaves out the empty place of a container without devices, so when there are fewer places than
    containers it is unknown whose they are; they are then counted as held by app containers, which never
    counts too little. Raises WireError.
    """
    places = text.split(";")[:-1] if text.endswith(";") else text.split(";")
    names = [name for name, _ in stages]
    if len(places) != len(names):
        names = [f"#{i}" for i in range(len(places))]  # no container can be called that
    found = (
        Part(words.vendor, name, tuple(_device(item, key, words) for item in place.split(":") if item.strip()), group)
        for name, place in zip(names, places, strict=True)
    )
    return tuple(part for part in found if part.devices)


def _json_records(text: str, key: str) -> list[dict[str, Any]]:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(key, text, f"write JSON ({error})") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise WireError(key, text, "write a JSON list of devices")
    return records


def _colon_records(text: str, key: str) -> list[dict[str, Any]]:
    records = []
    for position, item in enumerate(filter(None, (part.strip() for part in text.split(":")))):
        fields = [part.strip() for part in item.split(",")]
        if len(fields) not in {7, 9}:
            raise WireError(key, item, "write 7 or 9 comma-separated fields a device")
        names = ("id", "count", "devmem", "devcore", "type", "numa", "health", "index", "mode")
        record: dict[str, Any] = {"index": position, **dict(zip(names, fields, strict=False))}
        record["health"] = record["health"].lower() == "true"
        records.append(record)
    return records


def _card(record: dict[str, Any], where: str, vendor: str) -> Card:
    mode = str(record.get("mode") or "")
    if mode not in _MODES and vendor == _OURS:
        raise WireError(f"{where}.mode", mode, "use hami-core, mig or mps")
    identity, model = record.get("id"), record.get("type")
    if not isinstance(identity, str) or not identity or not isinstance(model, str) or not model:
        raise WireError(where, record, "write the device's id and type")
    return Card(
        id=identity,
        index=_number(record, "index", where, 0),
        vendor=vendor,
        model=model,
        memory_mib=_number(record, "devmem", where, 0),
        cores=_number(record, "devcore", where, 100),
        slots=_number(record, "count", where, 10),
        numa=numa_in(record, where),
        mode=_MODES.get(mode, Mode.SHARED),
        health=HEALTHY if record.get("health") is True else SUSPECT,
    )


def _number(record: dict[str, Any], name: str, where: str, default: int) -> int:
    value = record.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise WireError(f"{where}.{name}", value, "write a whole number") from error
    if not 0 <= number < 2**31:
        raise WireError(f"{where}.{name}", value, "write a whole number from 0 to 2147483647")
    return number


def _device(item: str, key: str, words: ResourceNames) -> Device:
    fields = [part.strip() for part in item.split(",")]
    if len(fields) < 4 or not fields[0]:
        raise WireError(key, item, "write UUID,vendor,MiB,cores")
    try:
        memory, cores = int(fields[2]), int(fields[3])
    except ValueError as error:
        raise WireError(key, item, "write MiB and cores as whole numbers") from error
    most = 100 if words.scheduled else 2**31
    if not 0 <= memory < 2**31 or not 0 <= cores <= most:
        raise WireError(key, item, f"write MiB from 0 and cores from 0 to {most}")
    return fields[0], fields[1], memory, cores
