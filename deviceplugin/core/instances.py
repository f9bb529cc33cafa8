"""MIG instances of the pods on this node: whose each is, by what is recorded of it. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kerf.values.ask import Stage
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.mig import Hurt, Instance, start_of
from kerf.wire.json import Json, at


@dataclass(frozen=True, slots=True)
class Record:
    """What is on disk of an instance: written before it is made, and again once the driver has named it."""

    card: str
    start: int
    size: int
    profile: int
    uid: str
    """Of the pod that holds it."""
    uuid: str = ""
    """Empty: it was about to be made."""
    before: tuple[str, ...] = ()
    """The card's instances when it was about to be made: none of these is it."""
    number: int = 0
    """The driver's number for the GPU instance, by which faults name it. Numbers are used again."""
    made: int = 0
    """Seconds since 1970."""
    hurt: Hurt | None = None
    """A fault for which its pod has to move."""

    @property
    def stem(self) -> str:
        """Its file. Two of Kerf's instances never begin at one place of a card."""
        return f"{self.card}.{self.start}"

    def describes(self, instance: Instance) -> bool:
        """Whether this is the instance. One that was about to be made is recognised by its place and profile."""
        if (self.start, self.size, self.profile) != (instance.start, instance.size, instance.profile):
            return False
        return self.uuid == instance.uuid if self.uuid else instance.uuid not in self.before


def render_record(record: Record) -> str:
    """The record as JSON."""
    fields = ("card", "start", "size", "profile", "uid", "uuid", "before", "number", "made")
    hurt = {"hurt": [record.hurt.code, record.hurt.cause, record.hurt.since]} if record.hurt else {}
    return json.dumps({name: getattr(record, name) for name in fields} | hurt)


def parse_record(text: str) -> Record | None:
    """What `render_record` wrote; None where the file is damaged."""
    try:
        found = json.loads(text)
        numbers = [found[key] for key in ("start", "size", "profile", "number", "made")]
        words = [found[key] for key in ("card", "uid", "uuid")]
        before, fault = found["before"], found.get("hurt")
        hurt = Hurt(int(numbers[0]), str(words[1]), int(fault[0]), str(fault[1]), int(fault[2])) if fault else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not whole or not all(isinstance(word, str) for word in (*words, *before)):
        return None
    start, size, profile, number, made = numbers
    card, uid, uuid = words
    return Record(card, start, size, profile, uid, uuid, tuple(before), number, made, hurt)


def recorded(records: Iterable[Record], card: str, instance: Instance) -> Record | None:
    """The record of an instance; None for one that Kerf did not make."""
    return next((record for record in records if record.card == card and record.describes(instance)), None)


def without_own(card: Card, records: Iterable[Record], gone: frozenset[str]) -> Card:
    """The card as others left it. `gone` are own instances that a reading may still show."""
    if card.mig is None or not card.mig.taken:
        return card
    listed = tuple(records)
    own = {(i.start, i.size) for i in card.mig.taken if i.uuid in gone or recorded(listed, card.id, i) is not None}
    hurt = tuple(sorted(record.hurt for record in listed if record.hurt and record.card == card.id))
    geometry = replace(card.mig.without(frozenset(own)), hurt=hurt)
    return card if geometry == card.mig else replace(card.in_mig(geometry), slicing=geometry.slicing)


def on_instances(slices: Iterable[Slice], cards: Mapping[str, Card]) -> tuple[Slice, ...]:
    """Those of the slices that lie on cards in MIG mode."""
    return tuple(piece for piece in slices if piece.card in cards and cards[piece.card].mig is not None)


def overlap(one: Iterable[Slice], other: Iterable[Slice]) -> bool:
    """Whether two containers hold different instances that cover one memory slice."""
    theirs = tuple(other)
    return any(a != b and a.card == b.card and a.place & b.place for a in one for b in theirs)


def starting(pod: Json, stages: Iterable[tuple[str, Stage]], names: Iterable[str]) -> str:
    """Which of these containers starts now: the first plain init container that has not ended well, else the last one.

    Empty where the API server still says that such an init container runs: its status comes late.
    """
    wanted, plain = tuple(names), {name for name, stage in stages if stage is Stage.INIT}
    states = {
        item.get("name"): item.get("state") or {} for item in at(pod, "status").get("initContainerStatuses") or ()
    }
    for name in wanted:
        state = states.get(name, {})
        if name in plain and (state.get("terminated") or {}).get("exitCode") != 0:
            return "" if "running" in state else name
    return next((name for name in reversed(wanted) if name not in plain), "")


def place_words(piece: Slice) -> str:
    """Where a slice lies, for messages."""
    return f"memory slice {start_of(piece.place)} of card {piece.card}"
