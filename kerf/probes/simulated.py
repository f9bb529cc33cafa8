"""Cards from a fleet file instead of hardware, read again when the file changes, so that a test can break one.

    cards:                          # of every node that `nodes` does not name
      - model: NVIDIA H100 80GB HBM3
        memory_mib: 81559
        count: 4                    # 1 if left out; indices run through all entries
        numa: [0, 0, 1, 1]          # a number for all, or one per card
        links: true                 # the entry's cards are joined by NVLink
        unhealthy: [2]              # which of the entry's cards are suspect, counted from 0
        health:                     # the same in detail; `cause` and `since` (seconds since 1970) may be left out
          - {card: 3, state: cordoned, cause: XID 79, since: 1764250000}
        # ids: [GPU-a, …]  cores: 100  slots: 10  mode: shared  vendor: nvidia
    nodes:                          # optional: one file for a fleet
      gpu-1: {cards: […], uses: [{card: GPU-…, pid: 4711, memory_mib: 9000, percent: 40}]}

Ids default to `GPU-<node>-<index>`.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path

import yaml

from kerf.probes.base import ProcessUse
from kerf.values.device import Card, Mode
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.values.units import MIB
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, known, list_at, object_at, one_of, text, whole
from kerf.wire.json import Json

_LOG = logging.getLogger("kerf.probes.simulated")
_CARD_KEYS = (
    "model", "memory_mib", "count", "numa", "links", "unhealthy", "health", "ids", "cores", "slots", "mode", "vendor",
)  # fmt: skip
_USE_KEYS = ("card", "pid", "memory_mib", "percent")
UNREADABLE = Health(State.SUSPECT, "the fleet file cannot be read")
_HEALTH_KEYS = ("card", "state", "cause", "since")
_LARGEST = 1 << 20
_LOOK_S = 0.2


class SimulatedProbe:
    """A `kerf.probes.base.Probe` over a file. An unreadable new version makes every card suspect and is logged once."""

    def __init__(self, path: str, node: str, slots: int = 10) -> None:
        self._path = Path(path)
        self._node = node
        self._slots = slots
        self._stamp = self._look()
        self._cards, self._uses = self._read()
        self.errors = 0

    def cards(self) -> tuple[Card, ...]:
        self._refresh()
        return self._cards

    def uses(self) -> tuple[ProcessUse, ...]:
        self._refresh()
        return self._uses

    def wait_change(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while self._look() == self._stamp:
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_LOOK_S, left))
        return True

    def close(self) -> None:
        pass

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._cards, self._uses = self._read()
        except WireError as error:
            self.errors += 1
            _LOG.error("%s", error)
            self._cards = tuple(replace(card, health=UNREADABLE) for card in self._cards)

    def _read(self) -> tuple[tuple[Card, ...], tuple[ProcessUse, ...]]:
        try:
            text = self._path.read_text(encoding="utf-8")
            if len(text) > _LARGEST:
                raise WireError(str(self._path), f"{len(text)} characters", f"write at most {_LARGEST}")
            document = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise WireError(str(self._path), str(error), "name a readable fleet file") from error
        except yaml.YAMLError as error:
            raise WireError(str(self._path), str(error).replace("\n", " "), "write YAML") from error
        return parse_fleet(document, self._node, self._slots), parse_uses(document, self._node)

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def parse_fleet(document: object, node: str, slots: int = 10) -> tuple[Card, ...]:
    """The cards of `node` in a fleet document. Raises WireError with the field and the fix."""
    part, where = _part(document, node)
    entries = part.get("cards")
    if not isinstance(entries, list) or not entries:
        raise WireError(f"{where}cards", entries, "list the node's cards")
    cards: list[Card] = []
    for i, entry in enumerate(entries):
        cards.extend(_entry(entry, f"{where}cards[{i}]", node, len(cards), slots))
    if len({card.id for card in cards}) != len(cards):
        raise WireError(f"{where}cards", [card.id for card in cards], "give every card its own id")
    return tuple(cards)


def parse_uses(document: object, node: str) -> tuple[ProcessUse, ...]:
    """The simulated processes of `node`. Raises WireError."""
    part, where = _part(document, node)
    uses = list_at(part.get("uses"), f"{where}uses")
    return tuple(_use(item, f"{where}uses[{i}]") for i, item in enumerate(uses))


def _part(document: object, node: str) -> tuple[Json, str]:
    top = object_at(document, "fleet")
    known(top, "", ("cards", "uses", "nodes"))
    named = object_at(top.get("nodes") or {}, "nodes")
    if node not in named:
        return top, ""
    part = object_at(named[node], f"nodes.{node}")
    known(part, f"nodes.{node}", ("cards", "uses"))
    return part, f"nodes.{node}."


def _entry(value: object, where: str, node: str, first: int, slots: int) -> list[Card]:
    entry = object_at(value, where)
    known(entry, where, _CARD_KEYS)
    count = whole(entry, "count", where, 1, (1, 64))
    ids = _ids(entry, where, [f"GPU-{node}-{first + i}" for i in range(count)])
    health = _health(entry, where, count)
    mode, linked = one_of(entry, "mode", where, "shared", Mode), flag(entry, "links", where, False)
    numas = _numas(entry, where, count)
    return [
        Card(
            id=ids[i],
            index=first + i,
            vendor=text(entry, "vendor", where, "nvidia"),
            model=text(entry, "model", where, None),
            memory_mib=whole(entry, "memory_mib", where, None, (1, 2**31 - 1)),
            cores=whole(entry, "cores", where, 100, (1, 100)),
            slots=whole(entry, "slots", where, slots, (1, 1000)),
            numa=numas[i],
            mode=Mode(mode),
            health=health.get(i, HEALTHY),
            links=tuple(other for other in ids if other != ids[i]) if linked else (),
        )
        for i in range(count)
    ]


def _ids(entry: Json, where: str, default: list[str]) -> list[str]:
    ids = entry.get("ids", default)
    if (
        not isinstance(ids, list)
        or len(ids) != len(default)
        or not all(isinstance(i, str) and 0 < len(i) < 64 for i in ids)
    ):
        raise WireError(f"{where}.ids", ids, f"list {len(default)} ids of 1 to 63 characters")
    return ids


def _numas(entry: Json, where: str, count: int) -> list[int]:
    numa = entry.get("numa", 0)
    numas = numa if isinstance(numa, list) else [numa] * count
    if len(numas) != count or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= 1024 for n in numas):
        raise WireError(f"{where}.numa", numa, f"write one number, or {count} of them")
    return numas


def _health(entry: Json, where: str, count: int) -> dict[int, Health]:
    """Health by card of those that are not healthy."""
    found = dict.fromkeys(_list(entry, "unhealthy", where, count), SUSPECT)
    for position, value in enumerate(list_at(entry.get("health"), f"{where}.health")):
        at = f"{where}.health[{position}]"
        item = object_at(value, at)
        known(item, at, _HEALTH_KEYS)
        state = State(one_of(item, "state", at, None, State))
        cause = text(item, "cause", at, None) if "cause" in item else ""
        since = whole(item, "since", at, 0, (0, 2**53))
        found[whole(item, "card", at, None, (0, count - 1))] = Health(state, cause, since)
    return found


def _list(entry: Json, key: str, where: str, count: int) -> list[int]:
    found = entry.get(key) or []
    if not isinstance(found, list) or not all(isinstance(n, int) and 0 <= n < count for n in found):
        raise WireError(f"{where}.{key}", found, f"list numbers from 0 to {count - 1}")
    return found


def _use(value: object, where: str) -> ProcessUse:
    item = object_at(value, where)
    known(item, where, _USE_KEYS)
    return ProcessUse(
        card=text(item, "card", where, None),
        pid=whole(item, "pid", where, None, (1, 2**31 - 1)),
        memory_bytes=whole(item, "memory_mib", where, 0, (0, 2**31 - 1)) * MIB,
        percent=whole(item, "percent", where, 0, (0, 100)),
    )
