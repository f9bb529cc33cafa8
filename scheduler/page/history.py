"""What was held of each card over the last hours, in a bounded number of bytes."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kerf.values.health import State
from kerf.views.page.rows import CORDONED, NOT_SLICED, OK

STEP_S = 120.0
STEPS = 180
"""Six hours."""
MOST_CARDS = 50_000
"""27 MB. Further cards have no history."""
_KINDS = 3
"""Percent of memory, percent of cores, and the state: a byte each."""
STATES = (OK, State.SUSPECT.value, State.RECOVERING.value, CORDONED, NOT_SLICED)
_UNKNOWN = 255


class History:
    """A ring of samples for each card. One thread writes and reads it."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._next = 0
        self._ring: NDArray[np.uint8] = np.full((64, STEPS, _KINDS), _UNKNOWN, np.uint8)
        self._times: list[float] = []
        self._at = -1

    def sample(self, now: float, cards: Iterable[tuple[str, int, int, str]]) -> None:
        """Note a moment: each card's id, percent of memory and of cores that is held, and its state."""
        self._at = (self._at + 1) % STEPS
        self._times = [*self._times[-(STEPS - 1) :], now]
        self._ring[:, self._at] = _UNKNOWN
        seen = set()
        for card, memory, cores, state in cards:
            row = self._row(card)
            if row is not None:
                seen.add(card)
                word = STATES.index(state) if state in STATES else _UNKNOWN
                self._ring[row, self._at] = (_percent(memory), _percent(cores), word)
        for card in [card for card in self._rows if card not in seen and self._silent(card)]:
            self._free.append(self._rows.pop(card))

    def of(self, card: str) -> list[tuple[float, int, int, str]]:
        """The moments of one card, the oldest first: time, percent of memory and of cores that was held, state."""
        row = self._rows.get(card)
        if row is None:
            return []
        order = np.roll(self._ring[row], -(self._at + 1), axis=0)[-len(self._times) :]
        return [
            (time, int(memory), int(cores), STATES[state] if state < len(STATES) else "")
            for time, (memory, cores, state) in zip(self._times, order, strict=True)
            if memory != _UNKNOWN
        ]

    def _silent(self, card: str) -> bool:
        return bool((self._ring[self._rows[card], :, 0] == _UNKNOWN).all())

    def _row(self, card: str) -> int | None:
        if card in self._rows:
            return self._rows[card]
        if len(self._rows) >= MOST_CARDS:
            return None
        if self._free:
            row = self._free.pop()
        else:
            row, self._next = self._next, self._next + 1
        if row >= len(self._ring):
            grown = np.full((min(2 * len(self._ring), MOST_CARDS), STEPS, _KINDS), _UNKNOWN, np.uint8)
            grown[: len(self._ring)] = self._ring
            self._ring = grown
        self._rows[card] = row
        return row


def _percent(value: int) -> int:
    return max(0, min(value, 254))
