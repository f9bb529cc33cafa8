"""MetaX sGPU: its own inventory, sharing policies and record. HAMi 2.10.0: `sdevice.go`, `protocol.go` of `metax`.

A card that is used keeps its sharing policy, so pods of another policy do not join it. Pods of an application class
never share a card with pods of none, and an offline pod does not join a card with an online one, which would stop it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.slicing import Exactly, Slicing
from kerf.values.vendor import Placement
from kerf.values.words import Said
from kerf.vendors.build import SERVED, Special, check_marks
from kerf.wire import hami
from kerf.wire.errors import WireError
from kerf.wire.inventory import distinct
from kerf.wire.json import Json, at, dumps

VENDOR = "metaxsgpu"
REGISTER, RECORD = "metax-tech.com/node-gpu-devices", "metax-tech.com/gpu-devices-allocated"
POLICY, CLASS = "metax-tech.com/sgpu-qos-policy", "metax-tech.com/sgpu-app-class"
POLICIES = ("best-effort", "fixed-share", "burst-share")
ONLINE, OFFLINE = "online", "offline"
_OFFLINE = tuple(f"{OFFLINE} {policy}" for policy in POLICIES)
GROUPS = (
    *((one, (*(other for other in POLICIES if other != one), *_OFFLINE, ONLINE)) for one in POLICIES),
    *((one, (*POLICIES, *(other for other in _OFFLINE if other != one), ONLINE)) for one in _OFFLINE),
    (ONLINE, POLICIES),
)


def group_of(notes: Mapping[str, Any]) -> str:
    """The sharing policy, with the application class where there is one. Raises ValueError."""
    app, policy = str(notes.get(CLASS) or ""), str(notes.get(POLICY) or POLICIES[0])
    if app not in {"", ONLINE, OFFLINE}:
        raise ValueError(f"{CLASS} is {app[:63]!r}: use {ONLINE} or {OFFLINE}")
    if app == ONLINE:
        return ONLINE
    if policy not in POLICIES:
        raise ValueError(f"use one of {', '.join(POLICIES)}")
    return f"{OFFLINE} {policy}" if app else policy


def resolve(ask: ContainerAsk, _said: Said) -> ContainerAsk:
    """A pod of an application class has one card a container; an online one counts no cores. Raises ValueError."""
    classed = ask.group == ONLINE or ask.group in _OFFLINE
    if classed and ask.cards != 1:
        raise ValueError(f"a pod with {CLASS} asks for one card a container")
    return replace(ask, cores=0) if ask.group == ONLINE else ask


def notes_of(_asks: tuple[ContainerAsk, ...], notes: Mapping[str, Any]) -> Mapping[str, str]:
    """The policy that pods of no policy get."""
    return {} if POLICY in notes or notes.get(CLASS) == ONLINE else {POLICY: POLICIES[0]}


def slicing_of(_card: Card) -> Slicing:
    """Any size, beside slices of the same policy alone."""
    return Exactly(GROUPS)


def cards(node: Json, _found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The cards of MetaX's own annotation. Raises WireError."""
    text = at(node, "metadata", "annotations").get(REGISTER)
    if text is None:
        return ()
    records = hami.parse_records(str(text), REGISTER)
    return distinct(tuple(_card(record, i) for i, record in enumerate(records)), REGISTER)


def _card(record: dict[str, Any], index: int) -> Card:
    where, identity, model = f"{REGISTER}[{index}]", record.get("uuid"), record.get("model") or "Metax-SGPU"
    if not isinstance(identity, str) or not identity or not isinstance(model, str):
        raise WireError(where, record, "write the device's uuid")
    check_marks(where, identity)
    zone = hami.number_in(record, "linkZone", where, 0)
    return Card(
        id=identity,
        index=index,
        vendor=VENDOR,
        model=model,
        memory_mib=hami.number_in(record, "totalVRam", where, 0),
        slots=min(max(hami.number_in(record, "totalDevCount", where, 1), 1), 127),
        numa=hami.numa_in(record, where),
        health=HEALTHY if record.get("healthy") is True else SUSPECT,
        facts=(SERVED, ("zone", str(zone))),
    )


def notes(placement: Placement) -> Mapping[str, str]:
    """What MetaX's plugin reads: uuid, percent and MiB, container by container."""
    found = [[_piece(s.card, s.cores, s.memory_mib) for s in slices] for _, slices in placement.of(VENDOR)]
    return {RECORD: dumps(found)}


def _piece(card: str, cores: int, mib: int) -> dict[str, str | int]:
    amounts = {"compute": cores, "vRam": mib}
    return {"uuid": card, **{key: value for key, value in amounts.items() if value}}


SPECIAL = Special(
    words={"group_of": group_of, "group_key": POLICY, "resolve": resolve, "notes": notes_of},
    slicing_of=slicing_of,
    cards=cards,
    reads=True,
    notes=notes,
    writes=frozenset({RECORD}),
    obeys=frozenset({POLICY, CLASS}),
)
