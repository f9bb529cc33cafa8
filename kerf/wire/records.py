"""`/records` of a node's device plugin: pods that held slices of its cards, with when they began and ended."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kerf.values.grant import CardUse
from kerf.values.learned import ServerPeak
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, list_at, object_at, whole
from kerf.wire.inventory import parse_versioned
from kerf.wire.json import Json, dumps

WHERE = "/records"
VERSION = 1
MOST_RECORDS = 20_000
_MOST = 2**53


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod that was admitted on the node. `end_ms` is 0 while it is there; times are milliseconds since 1970."""

    uid: str
    namespace: str
    name: str
    workload: str
    model: str
    start_ms: int
    end_ms: int
    uses: Mapping[str, CardUse]
    servers: tuple[ServerPeak, ...] = ()
    """Its containers, where it names its model."""


def render_records(records: Iterable[PodRecord]) -> str:
    """The page's text, or a file's with one record."""
    return dumps({"v": VERSION, "pods": [_object(record) for record in records]})


def parse_records(text: str) -> tuple[PodRecord, ...]:
    """The records of a page or a file. Unknown keys are ignored. Raises WireError."""
    document = parse_versioned(text, WHERE, VERSION)
    pods = list_at(document.get("pods"), f"{WHERE}.pods")
    if len(pods) > MOST_RECORDS:
        raise WireError(f"{WHERE}.pods", len(pods), f"send at most {MOST_RECORDS}")
    return tuple(_record(object_at(item, f"{WHERE}.pods[{i}]"), f"{WHERE}.pods[{i}]") for i, item in enumerate(pods))


def _object(record: PodRecord) -> dict[str, object]:
    cards = [
        {"card": card, "memory_mib": use.memory_mib, "cores": use.cores, "slots": use.slots}
        for card, use in sorted(record.uses.items())
    ]
    return {
        "uid": record.uid,
        "namespace": record.namespace,
        "name": record.name,
        "workload": record.workload,
        "model": record.model,
        "start_ms": record.start_ms,
        "end_ms": record.end_ms,
        "cards": cards,
        **({"servers": [asdict(server) for server in record.servers]} if record.servers else {}),
    }


def _record(item: Json, where: str) -> PodRecord:
    cards = list_at(item.get("cards"), f"{where}.cards")
    uses = [_use(object_at(card, f"{where}.cards[{i}]"), f"{where}.cards[{i}]") for i, card in enumerate(cards)]
    return PodRecord(
        uid=_text(item, "uid", where),
        namespace=_text(item, "namespace", where),
        name=_text(item, "name", where),
        workload=_text(item, "workload", where),
        model=_text(item, "model", where),
        start_ms=whole(item, "start_ms", where, None, (0, _MOST)),
        end_ms=whole(item, "end_ms", where, 0, (0, _MOST)),
        uses=dict(uses),
        servers=tuple(_server(object_at(each, at), at) for each, at in _places(item, f"{where}.servers")),
    )


def _places(item: Json, where: str) -> list[tuple[object, str]]:
    return [(each, f"{where}[{i}]") for i, each in enumerate(list_at(item.get("servers"), where))]


def _server(item: Json, where: str) -> ServerPeak:
    found: dict[str, Any] = {key: _text(item, key, where) for key in ("container", "model", "image")}
    found |= {key: _words(item, key, where) for key in ("command", "args")}
    for key in ("cards", "limit_mib", "peak_mib", "denied", "denied_before", "starts"):
        found[key] = whole(item, key, where, 0, (0, _MOST))
    return ServerPeak(**found, failed=flag(item, "failed", where, False))


def _words(item: Json, key: str, where: str) -> tuple[str, ...]:
    found = list_at(item.get(key), f"{where}.{key}")
    if not all(isinstance(word, str) for word in found):
        raise WireError(f"{where}.{key}", found, "write a list of texts")
    return tuple(found)


def _use(item: Json, where: str) -> tuple[str, CardUse]:
    amounts = (whole(item, key, where, 0, (0, 2**31 - 1)) for key in ("memory_mib", "cores", "slots"))
    return _text(item, "card", where), CardUse(*amounts)


def _text(value: Json, key: str, where: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise WireError(f"{where}.{key}", found, "write a text")
    return found
