"""A card's MIG geometry in the inventory: profiles with their placements, and the instances that are none of Kerf's."""

from typing import Any

from kerf.values.mig import Geometry, Hurt, Instance, Profile
from kerf.values.places import DIGITS
from kerf.wire.errors import WireError
from kerf.wire.fields import list_at, object_at, text, whole

_MOST = 64
"""Profiles and instances of a card; drivers list fewer than twenty."""
_LONGEST_NAME = 32
_LONGEST_CAUSE = 253


def geometry_json(geometry: Geometry) -> dict[str, Any]:
    """The geometry as plain JSON, keys in a fixed order."""
    profiles = [
        {
            "id": profile.id,
            "name": profile.name,
            "memory_mib": profile.memory_mib,
            "cores": profile.cores,
            "size": profile.size,
            "starts": list(profile.starts),
        }
        for profile in geometry.profiles
    ]
    taken = [
        {"profile": one.profile, "start": one.start, "size": one.size, "id": one.id, "uuid": one.uuid}
        for one in geometry.taken
    ]
    hurt = [
        {"start": one.start, "uid": one.uid, "code": one.code, "cause": one.cause[:_LONGEST_CAUSE], "since": one.since}
        for one in geometry.hurt
    ]
    further = {"taken": taken, "hurt": hurt}
    return {"profiles": profiles, **{key: listed for key, listed in further.items() if listed}}


def parse_geometry(value: object, where: str) -> Geometry:
    """What `geometry_json` wrote. Unknown keys are ignored. Raises WireError."""
    top = object_at(value, where)
    profiles, taken, hurt = (list_at(top.get(key), f"{where}.{key}") for key in ("profiles", "taken", "hurt"))
    for key, found in (("profiles", profiles), ("taken", taken), ("hurt", hurt)):
        if len(found) > _MOST:
            raise WireError(f"{where}.{key}", f"{len(found)} entries", f"write at most {_MOST}")
    return Geometry(
        tuple(_profile(each, f"{where}.profiles[{i}]") for i, each in enumerate(profiles)),
        tuple(_instance(each, f"{where}.taken[{i}]") for i, each in enumerate(taken)),
        tuple(_hurt(each, f"{where}.hurt[{i}]") for i, each in enumerate(hurt)),
    )


def _profile(value: object, where: str) -> Profile:
    item = object_at(value, where)
    size = whole(item, "size", where, None, (1, DIGITS))
    starts = list_at(item.get("starts"), f"{where}.starts")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= DIGITS - size for n in starts):
        raise WireError(f"{where}.starts", starts, f"list numbers from 0 to {DIGITS - size}")
    return Profile(
        id=whole(item, "id", where, None, (0, 2**31 - 1)),
        name=_name(item, where),
        memory_mib=whole(item, "memory_mib", where, None, (1, 2**31 - 1)),
        cores=whole(item, "cores", where, None, (0, 100)),
        size=size,
        starts=tuple(sorted(set(starts))),
    )


def _name(item: Any, where: str) -> str:  # noqa: ANN401 (JSON)
    name = text(item, "name", where, None)
    if len(name) > _LONGEST_NAME:
        raise WireError(f"{where}.name", name, f"write at most {_LONGEST_NAME} characters")
    return name


def _instance(value: object, where: str) -> Instance:
    item = object_at(value, where)
    size = whole(item, "size", where, None, (1, DIGITS))
    return Instance(
        start=whole(item, "start", where, None, (0, DIGITS - size)),
        size=size,
        profile=whole(item, "profile", where, None, (0, 2**31 - 1)),
        id=whole(item, "id", where, 0, (0, 2**31 - 1)),
        uuid=text(item, "uuid", where, None) if item.get("uuid") else "",
    )


def _hurt(value: object, where: str) -> Hurt:
    item = object_at(value, where)
    return Hurt(
        start=whole(item, "start", where, None, (0, DIGITS - 1)),
        uid=text(item, "uid", where, None),
        code=whole(item, "code", where, 0, (0, 10**6)),
        cause=text(item, "cause", where, None),
        since=whole(item, "since", where, 0, (0, 2**53)),
    )
