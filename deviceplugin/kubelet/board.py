"""What the node has right now: cards as last probed, slots as reported to the kubelet, the node's labels."""

import threading
from dataclasses import replace

from deviceplugin.core.health import changes
from deviceplugin.core.slots import Slot, slots_of, withdraw
from kerf.values.device import Card
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy


class Board:
    """Shared by all threads; `version` grows with every change, so waiting never misses one."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._changed = threading.Condition()
        self._version = 0
        self._cards: tuple[Card, ...] = ()
        self._withdrawn: frozenset[str] = frozenset()
        self._labels: tuple[tuple[str, str], ...] | None = None

    @property
    def cards(self) -> tuple[Card, ...]:
        """Cards by index, as hardware."""
        return self._cards

    @property
    def labels_known(self) -> bool:
        """Whether the node object has been seen."""
        return self._labels is not None

    def update(self, cards: tuple[Card, ...], held: frozenset[str]) -> tuple[str, ...]:
        """Take a reading, `held` being the slots that pods hold; sentences about what changed."""
        with self._changed:
            if cards == self._cards:
                return ()
            found = changes(self._cards, cards)
            self._withdrawn = withdraw(cards, held, self._withdrawn)
            self._cards = cards
            self._version += 1
            self._changed.notify_all()
            return found

    def label(self, labels: dict[str, str]) -> None:
        """Take the node's labels."""
        self._labels = tuple(sorted(labels.items()))

    def wait(self, version: int, timeout_s: float) -> int:
        """The current version, at the latest after `timeout_s`, at once if it is not `version`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)
            return self._version

    def slots(self) -> tuple[Slot, ...]:
        """The slots as the kubelet should see them."""
        with self._changed:
            return slots_of(self._cards, self._withdrawn)

    def grantable(self, policy: SchedulingPolicy) -> dict[str, Card]:
        """Cards by id with the node's over-commitment in their memory and cores."""
        memory, cores = policy.factors(Node(self._node, labels=self._labels or ()))
        return {card.id: _grown(card, memory, cores) for card in self._cards}


def _grown(card: Card, memory: float, cores: float) -> Card:
    return card.overcommitted(memory, cores) if (memory, cores) != (1.0, 1.0) else replace(card)
