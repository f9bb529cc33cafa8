"""Simulated MIG: what a driver keeps of a node's instances, in a file, so that they outlive the device plugin.

It refuses what the driver refuses, by the placements that were read from one (`kerf.probes.mig_models`).
"""

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kerf.probes.base import MigError
from kerf.values.device import Card
from kerf.values.mig import Instance, Profile, place_at

Made = dict[str, list[Instance]]


class SimulatedMig:
    """A `kerf.probes.base.MigDriver` over the cards of a fleet file. `path` is where the instances are kept."""

    def __init__(self, path: Path, cards: Callable[[], tuple[Card, ...]]) -> None:
        self._path = path
        self._cards = cards

    def of(self, card: str) -> tuple[Instance, ...]:
        """The instances that were made; those of the fleet file are not among them."""
        return tuple(sorted(_read(self._path).get(card, ())))

    def instances(self, card: str) -> tuple[Instance, ...]:
        return tuple(sorted((*self._written(card), *self.of(card))))

    def make(self, card: str, profile: int, start: int) -> Instance:
        wanted = self._profile(card, profile)
        if start not in wanted.starts:
            raise MigError(f"card {card}: {wanted.name} cannot begin at memory slice {start}")
        with self._books() as made:
            there = (*self._written(card), *made.get(card, ()))
            if any(each.covers & place_at(start, wanted.size).blocked for each in there):
                raise MigError(f"card {card}: insufficient resources for {wanted.name} at memory slice {start}")
            number = next(n for n in range(1, len(there) + 2) if n not in {each.id for each in there})
            instance = Instance(start, wanted.size, profile, number, f"MIG-{uuid.uuid4()}")
            made.setdefault(card, []).append(instance)
        return instance

    def destroy(self, card: str, instance: int) -> None:
        with self._books() as made:
            made[card] = [each for each in made.get(card, ()) if each.id != instance]

    def _written(self, card: str) -> tuple[Instance, ...]:
        """The instances of the fleet file."""
        found = next((each for each in self._cards() if each.id == card), None)
        if found is None or found.mig is None:
            raise MigError(f"card {card} is not in MIG mode")
        return found.mig.taken

    def _profile(self, card: str, profile: int) -> Profile:
        found = next((each for each in self._cards() if each.id == card), None)
        known = found.mig.profiles if found is not None and found.mig is not None else ()
        wanted = next((each for each in known if each.id == profile), None)
        if wanted is None:
            raise MigError(f"card {card} has no MIG profile {profile}")
        return wanted

    @contextmanager
    def _books(self) -> Iterator[Made]:
        """What was made, written back at the end; one process at a time."""
        descriptor = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            made = _read(self._path)
            yield made
            _write(self._path, made)
        finally:
            os.close(descriptor)


def _read(path: Path) -> Made:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {card: [Instance(*fields) for fields in found] for card, found in document.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MigError(f"{path}: {error}") from error


def _write(path: Path, made: Made) -> None:
    listed = {
        card: [[each.start, each.size, each.profile, each.id, each.uuid] for each in found]
        for card, found in made.items()
    }
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_text(json.dumps(listed), encoding="utf-8")
    fresh.replace(path)
