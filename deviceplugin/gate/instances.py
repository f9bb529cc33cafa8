"""MIG instances: made when a container starts, taken over by its restarts, and removed after its pod has ended.

A record is written before an instance is made and completed once the driver has named it, so that SIGKILL at any point
leaves an instance that the next run recognises. An instance without a record is somebody else's: it is never removed.
The exception is one that lies exactly where a pod that already ran holds it: then the records were lost, not its owner.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from deviceplugin.core.instances import (
    Record,
    on_instances,
    parse_record,
    place_words,
    recorded,
    render_record,
    without_own,
)
from deviceplugin.state.files import Files
from kerf.probes.base import MigDriver, MigError
from kerf.values.device import Card
from kerf.values.fault import Fault
from kerf.values.grant import Holding, Slice
from kerf.values.mig import Hurt, Instance, start_of

_LOG = logging.getLogger("kerf.deviceplugin.instances")
GONE_S = 60.0
"""How long a reading of a card may still show an instance that has been removed. A driver may use its UUID again."""
Given = tuple[tuple[str, int, str], ...]
"""(card, place, UUID) of instances."""


class Instances:
    """The instances of this node's pods. The caller holds the gate's lock, except for `others` and `hurt`.

    `hurt` does not wait for the gate, whose holder may be waiting for a driver that hangs because of the fault.
    """

    def __init__(self, files: Files, drivers: Mapping[str, MigDriver], clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock
        self._drivers = drivers
        """By vendor."""
        self._gone: Mapping[str, float] = {}
        """When each instance was removed, by UUID."""
        self._writing = threading.Lock()
        """Held while a record is read and written again, or removed."""

    def others(self, card: Card) -> Card:
        """The card with the instances that are none of Kerf's. Its reading may be a moment old."""
        gone = frozenset(self._lately_gone())
        return without_own(card, self.records(), gone)

    def records(self) -> tuple[Record, ...]:
        """Everything recorded. A damaged record is logged and left out."""
        found = []
        for stem, text in self._files.instances().items():
            record = parse_record(text)
            if record is None:
                _LOG.warning("the record of instance %s is damaged", stem)
            else:
                found.append(record)
        return tuple(found)

    def of(self, uid: str) -> Given:
        """The instances of a pod."""
        mine = (record for record in self.records() if record.uid == uid and record.uuid)
        return tuple((r.card, Instance(r.start, r.size, r.profile).covers, r.uuid) for r in mine)

    def ensure(self, occupant: "Occupant", slices: Iterable[Slice]) -> None:
        """Make what a container needs of the cards in MIG mode. Raises MigError."""
        for piece in on_instances(slices, occupant.cards):
            self._ensure(occupant, piece)

    def adopt(self, occupant: "Occupant") -> None:
        """Record again what a running pod holds, if its records were lost. Never raises."""
        known = {(card, place) for card, place, _ in self.of(occupant.holding.uid)}
        for piece in on_instances(occupant.holding.grant.slices, occupant.cards):
            if (piece.card, piece.place) in known:
                continue
            try:
                wanted, listed = occupant.wanted(piece), self._driver(piece, occupant.cards).instances(piece.card)
            except MigError as error:
                _LOG.warning("the instance of pod %s is not known: %s", occupant.holding.pod, error)
                continue
            records = self.records()
            for instance in (i for i in listed if i.uuid and recorded(records, piece.card, i) is None):
                if wanted.describes(instance):
                    self._write(self._named(wanted, instance))

    def reclaim(self, live: Collection[str], vendors: Mapping[str, str]) -> int:
        """Remove the instances of pods that are not live; how many. `vendors` has each card's. Never raises."""
        removed = 0
        for record in self.records():
            driver = self._drivers.get(vendors.get(record.card, ""))
            if record.uid in live or driver is None:
                continue
            try:
                found = next((i for i in driver.instances(record.card) if record.describes(i)), None)
                if found is not None:
                    self._remove(driver, record, found)
                    removed += 1
                else:
                    self._drop(record)
            except MigError as error:
                _LOG.warning("instance %s of card %s is not removed yet: %s", record.uuid, record.card, error)
        return removed

    def hurt(self, card: str, fault: Fault, cause: str) -> bool:
        """Note that the pod of an instance has to move because of a fault that names it; False if it is none of Kerf's.

        The first fault is kept, until the instance is removed.
        """
        number = int(fault.instance) if fault.instance.isdecimal() else -1
        with self._writing:
            mine = (r for r in self.records() if r.uuid and (r.card, r.number) == (card, number) and fault.at >= r.made)
            record = next(mine, None)
            if record is None:
                return False
            if record.hurt is None:
                words = f"MIG instance {record.number} at memory slice {record.start}: {cause}"
                hurt = Hurt(record.start, record.uid, fault.code, words, int(fault.at))
                self._files.write_instance(record.stem, render_record(replace(record, hurt=hurt)))
            return True

    # ---- inside
    def _ensure(self, occupant: "Occupant", piece: Slice) -> None:
        driver, wanted, records = self._driver(piece, occupant.cards), occupant.wanted(piece), self.records()
        for instance in driver.instances(piece.card):
            if not instance.covers & piece.place:
                continue
            record = recorded(records, piece.card, instance)
            same = bool(instance.uuid) and replace(wanted, uuid=instance.uuid).describes(instance)
            if same and (record.uid == wanted.uid if record else occupant.ran):
                if record is None or not record.uuid:  # a complete one may get a fault at any moment
                    self._write(self._named(wanted, instance))
                return
            if record is None:
                named = instance.uuid or f"number {instance.id}"
                raise MigError(f"instance {named}, which Kerf did not make, lies at {place_words(piece)}")
            if record.uid in occupant.live and record.uid != wanted.uid:
                raise MigError(f"another pod's instance {instance.uuid} lies at {place_words(piece)}", busy=True)
            self._remove(driver, record, instance)
        before = tuple(instance.uuid for instance in driver.instances(piece.card))
        self._write(replace(wanted, before=before))
        made = driver.make(piece.card, wanted.profile, wanted.start)
        self._write(self._named(wanted, made))
        _LOG.info("made instance %s at %s for pod %s", made.uuid, place_words(piece), occupant.holding.pod)

    def _named(self, wanted: Record, instance: Instance) -> Record:
        return replace(wanted, uuid=instance.uuid, number=instance.id, made=int(self._clock()))

    def _remove(self, driver: MigDriver, record: Record, instance: Instance) -> None:
        self._gone = {**self._lately_gone(), instance.uuid: self._clock()}
        driver.destroy(record.card, instance.id)
        self._drop(record)
        _LOG.info("removed instance %s of card %s, of pod %s", instance.uuid, record.card, record.uid)

    def _driver(self, piece: Slice, cards: Mapping[str, Card]) -> MigDriver:
        driver = self._drivers.get(cards[piece.card].vendor)
        if driver is None:
            raise MigError(f"nothing here makes instances of card {piece.card}")
        return driver

    def _lately_gone(self) -> dict[str, float]:
        now = self._clock()
        return {uuid: at for uuid, at in self._gone.items() if abs(now - at) < GONE_S}

    def _write(self, record: Record) -> None:
        with self._writing:
            self._files.write_instance(record.stem, render_record(record))

    def _drop(self, record: Record) -> None:
        with self._writing:
            self._files.drop_instance(record.stem)


@dataclass(frozen=True, slots=True)
class Occupant:
    """A pod that starts here, and what its instances depend on."""

    holding: Holding
    cards: Mapping[str, Card]
    live: Collection[str]
    """Uids of the pods that keep their instances."""
    ran: bool
    """The pod had its instances before."""

    def wanted(self, piece: Slice) -> Record:
        """The instance that a slice is. Raises MigError for a slice that is none of the card's profiles."""
        geometry = self.cards[piece.card].mig
        profile = geometry.profile_of(piece.memory_mib, piece.cores) if geometry else None
        if profile is None:
            raise MigError(f"no MIG profile of card {piece.card} has {piece.memory_mib} MiB and {piece.cores} %")
        return Record(piece.card, start_of(piece.place), profile.size, profile.id, self.holding.uid)
