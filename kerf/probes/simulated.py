"""Cards from a fleet file instead of hardware, read again when the file changes, so that a test can break one.

    cards:                          # of every node that `nodes` does not name
      - model: NVIDIA H100 80GB HBM3
        memory_mib: 81559
        count: 4                    # 1 if left out; indices run through all entries
        numa: [0, 0, 1, 1]          # a number for all, or one per card
        links: true                 # the entry's cards are joined by NVLink
        unhealthy: [2]              # which of the entry's cards are suspect, counted from 0
        health:                     # the same in detail; `cause` and `since` (seconds since 1970) may be left out
          - {card: 3, state: cordoned, cause: XID 79, since: 1764250000, moves: true, code: 79}
        lost: [1]                   # cards that the driver calls lost, as long as they are listed
        driver_limits: true         # the driver can keep limits of memory for cgroups
        # ids: [GPU-a, …]  cores: 100  slots: 10  mode: shared  vendor: nvidia  buses: ["0000:5d:00", …]
        # driver: 570.86.15
      - model: NVIDIA H200
        memory_mib: 143771
        mode: mig                   # only models whose placements were read from a driver
        instances: [{card: 0, profile: 1g.18gb, start: 6}]   # made by somebody else: they stay
    nodes:                          # optional: one file for a fleet
      gpu-1: {cards: […], uses: [{card: GPU-…, pid: 4711, memory_mib: 9000, percent: 40}]}

Ids default to `GPU-<node>-<index>`, addresses on the bus to `0000:<index + 1>:00`. Faults in a kernel log change the
health of these cards as they do with hardware; `health` in the file counts more than that. MIG instances that are made
are kept beside the file, in `<file>.<node>.mig`.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from kerf.faults.bus import parse_bus
from kerf.faults.xid import OFF_THE_BUS
from kerf.probes.base import MigError, ProcessUse
from kerf.probes.boot import boot_id
from kerf.probes.courses import Courses
from kerf.probes.mig_models import GEOMETRIES, known_geometry
from kerf.probes.recovery import CLEAN_READS, Sign
from kerf.probes.simulated_limits import SimulatedLimits
from kerf.probes.simulated_mig import SimulatedMig
from kerf.values.device import NO_LIMITS, Backend, Card, Mode
from kerf.values.fault import Fault, Signal
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.values.mig import Geometry, Instance, place_at
from kerf.values.units import MIB
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, known, list_at, object_at, one_of, text, whole
from kerf.wire.inventory import distinct
from kerf.wire.json import Json

_LOG = logging.getLogger("kerf.probes.simulated")
_CARD_KEYS = (
    "model", "memory_mib", "count", "numa", "links", "unhealthy", "health", "lost", "ids", "cores", "slots", "mode",
    "vendor", "buses", "instances", "driver", "driver_limits",
)  # fmt: skip
_USE_KEYS = ("card", "pid", "memory_mib", "percent")
UNREADABLE = Health(State.SUSPECT, "the fleet file cannot be read")
_INSTANCE_KEYS = ("card", "profile", "start")
_HEALTH_KEYS = ("card", "state", "cause", "since", "moves", "code")
LOST = "the driver calls the card lost"
_LARGEST = 1 << 20
_LOOK_S = 0.2
_MOST_FAULTS = 1000


@dataclass(frozen=True, slots=True)
class _Fleet:
    """The file as last read."""

    cards: tuple[Card, ...]
    lost: frozenset[str]
    uses: tuple[ProcessUse, ...]


class SimulatedProbe:
    """A `kerf.probes.base.Probe` over a file. An unreadable new version makes every card suspect and is logged once."""

    def __init__(
        self,
        path: str,
        node: str,
        slots: int = 10,
        clean_reads: Callable[[], int] = lambda: CLEAN_READS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._node = node
        self._slots = slots
        self._clock = clock
        self._courses = Courses(boot_id(), clean_reads)
        self._faults: deque[Fault] = deque(maxlen=_MOST_FAULTS)
        self._stamp = self._look()
        self._fleet = self._read()
        self.mig = SimulatedMig(self._path.with_name(f"{self._path.name}.{node}.mig"), lambda: self._fleet.cards)
        self.limits = SimulatedLimits()
        self.errors = 0

    def cards(self) -> tuple[Card, ...]:
        self._refresh()
        now = int(self._clock())
        for card in self._fleet.cards:
            if card.id not in self._fleet.lost:
                self._courses.read(card.id, None, now)
                continue
            self._courses.failed(card.id, LOST, now)
            if not self._courses.cordoned(card.id):
                self._faults.append(Fault(now, card.id, OFF_THE_BUS, Signal.LOST, LOST))
        return self.known()

    def known(self) -> tuple[Card, ...]:
        return tuple(
            card if card.health != HEALTHY else replace(card, health=self._courses.health(card.id))
            for card in map(self._with_made, self._fleet.cards)
        )

    def _with_made(self, card: Card) -> Card:
        if card.mig is None:
            return card
        try:
            made = self.mig.of(card.id)
        except MigError as error:
            self.errors += 1
            _LOG.error("%s", error)
            return replace(card, health=UNREADABLE)
        return card.in_mig(replace(card.mig, taken=tuple(sorted((*card.mig.taken, *made))))) if made else card

    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults.popleft() for _ in range(len(self._faults)))

    def report(self, card: str, sign: Sign) -> bool:
        return self._courses.fault(card, sign)

    def restore(self, healths: Mapping[str, Health]) -> None:
        self._courses.restore(healths)

    def uses(self) -> tuple[ProcessUse, ...]:
        self._refresh()
        return self._fleet.uses

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
            self._fleet = self._read()
        except WireError as error:
            self.errors += 1
            _LOG.error("%s", error)
            cards = tuple(replace(card, health=UNREADABLE) for card in self._fleet.cards)
            self._fleet = replace(self._fleet, cards=cards)

    def _read(self) -> _Fleet:
        try:
            text = self._path.read_text(encoding="utf-8")
            if len(text) > _LARGEST:
                raise WireError(str(self._path), f"{len(text)} characters", f"write at most {_LARGEST}")
            document = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise WireError(str(self._path), str(error), "name a readable fleet file") from error
        except yaml.YAMLError as error:
            raise WireError(str(self._path), str(error).replace("\n", " "), "write YAML") from error
        cards = parse_fleet(document, self._node, self._slots)
        return _Fleet(cards, parse_lost(document, self._node, cards), parse_uses(document, self._node))

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
    return distinct(tuple(cards), f"{where}cards")


def parse_uses(document: object, node: str) -> tuple[ProcessUse, ...]:
    """The simulated processes of `node`. Raises WireError."""
    part, where = _part(document, node)
    uses = list_at(part.get("uses"), f"{where}uses")
    return tuple(_use(item, f"{where}uses[{i}]") for i, item in enumerate(uses))


def parse_lost(document: object, node: str, cards: tuple[Card, ...]) -> frozenset[str]:
    """Ids of the node's cards that are lost. Raises WireError."""
    part, where = _part(document, node)
    lost: set[str] = set()
    first = 0
    for i, entry in enumerate(list_at(part.get("cards"), f"{where}cards")):
        count = whole(entry, "count", f"{where}cards[{i}]", 1, (1, 64))
        lost |= {cards[first + number].id for number in _list(entry, "lost", f"{where}cards[{i}]", count)}
        first += count
    return frozenset(lost)


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
    buses = _buses(entry, where, first, count)
    mode, linked = one_of(entry, "mode", where, "shared", Mode), flag(entry, "links", where, False)
    numas = _numas(entry, where, count)
    no_limits = "" if flag(entry, "driver_limits", where, False) else NO_LIMITS
    geometry = _geometry(entry, where, count, Mode(mode))
    cards = [
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
            backend=Backend.MPS if mode == Mode.MPS else Backend.UNSAID,
            health=health.get(i, HEALTHY),
            links=tuple(other for other in ids if other != ids[i]) if linked else (),
            bus=buses[i],
            driver=text(entry, "driver", where, None) if "driver" in entry else "",
            no_limits=no_limits,
        )
        for i in range(count)
    ]
    return [card.in_mig(geometry[i]) for i, card in enumerate(cards)] if geometry else cards


def _geometry(entry: Json, where: str, count: int, mode: Mode) -> tuple[Geometry, ...]:
    """Each card's geometry with the instances of the file; nothing for cards that are not in MIG mode."""
    listed = list_at(entry.get("instances"), f"{where}.instances")
    if mode is not Mode.MIG:
        if listed:
            raise WireError(f"{where}.instances", listed, "write mode: mig, or leave the instances out")
        return ()
    model = text(entry, "model", where, None)
    known_one = known_geometry(model)
    if known_one is None or text(entry, "vendor", where, "nvidia") != "nvidia":
        fix = f"nobody has read its MIG placements from a driver: simulate one of {', '.join(GEOMETRIES)}"
        raise WireError(f"{where}.model", model, fix)
    cards = [known_one] * count
    for i, value in enumerate(listed):
        at = f"{where}.instances[{i}]"
        item = object_at(value, at)
        known(item, at, _INSTANCE_KEYS)
        card = whole(item, "card", at, 0, (0, count - 1))
        cards[card] = _with_instance(cards[card], item, at)
    return tuple(cards)


def _with_instance(geometry: Geometry, item: Json, at: str) -> Geometry:
    """The geometry with one more instance of the file. Raises WireError where none can lie there."""
    name = one_of(item, "profile", at, None, [profile.name for profile in geometry.profiles])
    profile = next(each for each in geometry.profiles if each.name == name)
    start = whole(item, "start", at, None, (0, 7))
    if start not in profile.starts or place_at(start, profile.size).blocked & geometry.held:
        free = [s for s in profile.starts if not place_at(s, profile.size).blocked & geometry.held]
        raise WireError(f"{at}.start", start, f"write one of {free}: {name} lies nowhere else on this card")
    number = 100 + len(geometry.taken)
    instance = Instance(start, profile.size, profile.id, number, f"MIG-of-the-file-{number}")
    return replace(geometry, taken=(*geometry.taken, instance))


def _ids(entry: Json, where: str, default: list[str]) -> list[str]:
    ids = entry.get("ids", default)
    if (
        not isinstance(ids, list)
        or len(ids) != len(default)
        or not all(isinstance(i, str) and 0 < len(i) < 64 for i in ids)
    ):
        raise WireError(f"{where}.ids", ids, f"list {len(default)} ids of 1 to 63 characters")
    return ids


def _buses(entry: Json, where: str, first: int, count: int) -> list[str]:
    buses = entry.get("buses", [f"0000:{(first + i + 1) % 256:02x}:00" for i in range(count)])
    good = isinstance(buses, list) and len(buses) == count
    if not good or not all(isinstance(bus, str) and parse_bus(bus) for bus in buses):
        raise WireError(f"{where}.buses", buses, f"list {count} addresses such as 0000:5d:00")
    return [parse_bus(bus) for bus in buses]


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
        moves, code = flag(item, "moves", at, False), whole(item, "code", at, 0, (0, 99_999))
        found[whole(item, "card", at, None, (0, count - 1))] = Health(state, cause, since, code, moves)
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
