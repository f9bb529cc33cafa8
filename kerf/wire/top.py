"""`/top` of a node's monitor: use against grant per container, as versioned JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.fields import flag, list_at, object_at, whole
from kerf.wire.inventory import parse_versioned
from kerf.wire.json import Json

WHERE = "/top"
VERSION = 1


@dataclass(frozen=True, slots=True)
class TopCard:
    """One card: MiB in use by all processes, and by processes outside of pods (`foreign_mib`)."""

    card: str
    model: str
    memory_mib: int
    used_mib: int
    foreign_mib: int
    healthy: bool
    health: str = ""
    """State and cause of a card that is not healthy."""


@dataclass(frozen=True, slots=True)
class TopProcess:
    """One process by its PID inside the container and on the host (0 until the host's is known)."""

    pid: int
    host_pid: int
    command: str
    used_mib: int


@dataclass(frozen=True, slots=True)
class TopContainer:
    """One container on one card. The driver's own count is `driver_mib`; `bypassed`: past the limiter."""

    namespace: str
    pod: str
    container: str
    card: str
    limit_mib: int | None
    """None: no limit."""
    used_mib: int
    peak_mib: int
    driver_mib: int
    denied: int
    """Allocations that were refused at the limit."""
    cores: int
    """Percent; 0: no limit."""
    busy_percent: int
    throttled_ms: int
    launches: int
    processes: tuple[TopProcess, ...]
    events: dict[str, int]
    """What the limiter could not enforce, counted by kind."""
    bypassed: bool


@dataclass(frozen=True, slots=True)
class NodeTop:
    """One node at one moment. `overuse` has a sentence per container that uses more than it was granted."""

    cards: tuple[TopCard, ...] = ()
    containers: tuple[TopContainer, ...] = ()
    overuse: tuple[str, ...] = ()


def render_top(top: NodeTop) -> str:
    """The page's text."""
    return json.dumps(top_object(top))


def top_object(top: NodeTop) -> dict[str, Any]:
    """The page as JSON values, for a document that holds several nodes."""
    return {
        "v": VERSION,
        "cards": [_card_object(card) for card in top.cards],
        "containers": [{**asdict(c), "processes": [asdict(p) for p in c.processes]} for c in top.containers],
        "overuse": list(top.overuse),
    }


def parse_top(text: str) -> NodeTop:
    """The values of a page. Unknown keys are ignored, missing keys are empty. Raises WireError."""
    document = parse_versioned(text, WHERE, VERSION)
    overuse = document.get("overuse", [])
    if not isinstance(overuse, list) or not all(isinstance(sentence, str) for sentence in overuse):
        raise WireError(f"{WHERE}.overuse", overuse, "write a list of texts")
    return NodeTop(
        cards=tuple(_card(item, where) for item, where in _objects(document, "cards", WHERE)),
        containers=tuple(_container(item, where) for item, where in _objects(document, "containers", WHERE)),
        overuse=tuple(overuse),
    )


def _card_object(card: TopCard) -> Json:
    found = asdict(card)
    return found if card.health else {key: value for key, value in found.items() if key != "health"}


def _card(item: Json, where: str) -> TopCard:
    return TopCard(
        card=_text(item, "card", where),
        model=_text(item, "model", where),
        memory_mib=_number(item, "memory_mib", where),
        used_mib=_number(item, "used_mib", where),
        foreign_mib=_number(item, "foreign_mib", where),
        healthy=flag(item, "healthy", where, True),
        health=_text(item, "health", where),
    )


def _container(item: Json, where: str) -> TopContainer:
    events = object_at(item.get("events", {}), f"{where}.events")
    return TopContainer(
        namespace=_text(item, "namespace", where),
        pod=_text(item, "pod", where),
        container=_text(item, "container", where),
        card=_text(item, "card", where),
        limit_mib=None if item.get("limit_mib") is None else _number(item, "limit_mib", where),
        used_mib=_number(item, "used_mib", where),
        peak_mib=_number(item, "peak_mib", where),
        driver_mib=_number(item, "driver_mib", where),
        denied=_number(item, "denied", where),
        cores=_number(item, "cores", where),
        busy_percent=_number(item, "busy_percent", where),
        throttled_ms=_number(item, "throttled_ms", where),
        launches=_number(item, "launches", where),
        processes=tuple(_process(process, at) for process, at in _objects(item, "processes", where)),
        events={key: _number(events, key, f"{where}.events") for key in events},
        bypassed=flag(item, "bypassed", where, False),
    )


def _process(item: Json, where: str) -> TopProcess:
    return TopProcess(
        pid=_number(item, "pid", where),
        host_pid=_number(item, "host_pid", where),
        command=_text(item, "command", where),
        used_mib=_number(item, "used_mib", where),
    )


def _objects(value: Json, key: str, where: str) -> list[tuple[Json, str]]:
    found = list_at(value.get(key), f"{where}.{key}")
    places = [f"{where}.{key}[{position}]" for position in range(len(found))]
    return [(object_at(item, place), place) for item, place in zip(found, places, strict=True)]


def _text(value: Json, key: str, where: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise WireError(f"{where}.{key}", found, "write a text")
    return found


def _number(value: Json, key: str, where: str) -> int:
    return whole(value, key, where, 0, (0, 2**64 - 1))
