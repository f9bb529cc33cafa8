"""CDI specs (Container Device Interface 0.6): how a grant reaches the runtime."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.injection import Mount
from kerf.wire.errors import WireError
from kerf.wire.json import dumps

VERSION = "0.6.0"
KIND = "kerf.dev/grant"
_NEEDS_0_7 = "additionalGids"


@dataclass(frozen=True, slots=True)
class Edits:
    """What the runtime changes in a container: environment and mounts, plus another spec's edits as they stand."""

    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    merged: tuple[Mapping[str, Any], ...] = field(default=())
    """`containerEdits` objects of the node's own specs for the granted cards."""


def device_id(slots: tuple[str, ...]) -> str:
    """The device's name within the kind; also the stem of the spec's file name."""
    return "-".join(sorted(slots))


def render_spec(devices: Iterable[tuple[str, Edits]], annotations: Mapping[str, str]) -> str:
    """A CDI spec file with one device per name."""
    listed = [{"name": name, "containerEdits": _container_edits(edits)} for name, edits in devices]
    newer = any(_NEEDS_0_7 in device["containerEdits"] for device in listed)
    spec: dict[str, Any] = {"cdiVersion": "0.7.0" if newer else VERSION, "kind": KIND, "devices": listed}
    if annotations:
        spec["annotations"] = annotations
    return dumps(spec, sort_keys=True)


def _container_edits(edits: Edits) -> dict[str, list[Any]]:
    """Merged edits come first, so Kerf's own environment has the last word."""
    out: dict[str, list[Any]] = {}
    for other in edits.merged:
        for key, values in other.items():
            if isinstance(values, list):
                out.setdefault(key, []).extend(value for value in values if value not in out.get(key, []))
    env = [f"{name}={value}" for name, value in edits.env]
    mounts = [
        {
            "hostPath": mount.host,
            "containerPath": mount.container,
            "options": ["ro" if mount.read_only else "rw", "nosuid", "nodev", "rbind"],
        }
        for mount in edits.mounts
    ]
    if env:
        out.setdefault("env", []).extend(env)
    if mounts:
        out.setdefault("mounts", []).extend(mounts)
    return out


def parse_spec_devices(text: str, kind: str) -> dict[str, Mapping[str, Any]]:
    """Edits per device name of a foreign spec of `kind`; spec-wide edits are merged into each. Empty for other kinds.

    Raises WireError.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("CDI spec", text, f"write JSON ({error})") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        return {}
    devices = _list(document.get("devices"))
    if not all(isinstance(device, dict) and isinstance(device.get("name"), str) for device in devices):
        raise WireError("CDI spec devices", devices, "name every device")
    shared = _edits(document, "CDI spec")
    return {device["name"]: _merged(shared, _edits(device, f"CDI spec device {device['name']}")) for device in devices}


def _edits(holder: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    edits = holder.get("containerEdits") or {}
    if not isinstance(edits, dict):
        raise WireError(f"{where}: containerEdits", edits, "write an object")
    return edits


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: [*_list(shared.get(key)), *_list(own.get(key))] for key in sorted({*shared, *own})}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
