"""What the node has right now: its cards as last read, and its labels."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from deviceplugin.core.changes import changes
from deviceplugin.core.modes import CardMode
from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy


class LocalNode:
    """Shared by all threads. `version` grows with every change of the cards, so a waiting thread never misses one."""

    def __init__(self, name: str, others: Callable[[Card], Card] = lambda card: card) -> None:
        self.name = name
        self._others = others
        """A card without what this plugin itself made of it."""
        self._changed = threading.Condition()
        self._version = 0
        self._by_probe: dict[str, tuple[Card, ...]] = {}
        self._cards: tuple[Card, ...] = ()
        self._hands: Mapping[str, Allocator] = {}
        self._labels: tuple[tuple[str, str], ...] | None = None
        self.uid = ""
        self.cordoned: tuple[str, ...] = ()
        self._modes: dict[str, CardMode] = {}

    @property
    def cards(self) -> tuple[Card, ...]:
        """The cards of all probes by index, as the hardware has them."""
        return self._cards

    @property
    def labels_known(self) -> bool:
        """Whether the node object has been read."""
        return self._labels is not None

    def update_cards(self, cards: tuple[Card, ...], probe: str = "") -> tuple[str, ...]:
        """Store one probe's reading of its cards. Returns a sentence per card that changed."""
        cards = tuple(map(self._others, cards))
        with self._changed:
            before = self._by_probe.get(probe, ())
            if cards == before:
                return ()
            found = changes(before, cards)
            self._by_probe[probe] = cards
            self._show()
            return found

    def update_hands(self, hands: Mapping[str, Allocator]) -> None:
        """Store who hands out each card; a card that is not named is the extender's."""
        with self._changed:
            if dict(hands) != dict(self._hands):
                self._hands = dict(hands)
                self._show()

    def update_labels(self, labels: dict[str, str]) -> None:
        """Store the node's labels."""
        self._labels = tuple(sorted(labels.items()))

    def update_node(self, uid: str, cordoned: tuple[str, ...]) -> None:
        """Store the node object's uid and which of its cards are cordoned."""
        with self._changed:
            if (uid, cordoned) != (self.uid, self.cordoned):
                self.uid, self.cordoned = uid, cordoned
                self._version += 1
                self._changed.notify_all()

    def as_node(self) -> Node:
        """The node with its labels, for questions to the policy."""
        return Node(self.name, labels=self._labels or ())

    @property
    def modes(self) -> Mapping[str, CardMode]:
        """How each card is shared, by its id."""
        return self._modes

    def change_modes(self, modes: Mapping[str, CardMode]) -> None:
        """From now on the cards are shared so. Readers have to show them again."""
        self._modes = dict(modes)

    def as_shared(self, card: Card) -> Card:
        """A card, as the hardware has it, in its mode."""
        mode = self._modes.get(card.id)
        return mode.applied(card) if mode else card

    def wait(self, version: int, timeout_s: float) -> int:
        """The current version: at once if it is not `version`, otherwise after a change or `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout_s)
            return self._version

    def wake(self, sleeper: threading.Event, stop: threading.Event) -> None:
        """Set the event at every change of the node, until stopped."""
        version = -1
        while not stop.is_set():
            seen = self.wait(version, 1.0)
            if seen != version:
                version = seen
                sleeper.set()

    def _show(self) -> None:
        """Put the cards of all probes together, each with its allocator. Holds the lock."""
        found = (card for name in sorted(self._by_probe) for card in self._by_probe[name])
        self._cards = tuple(_in_hands(card, self._hands.get(card.id, card.allocator)) for card in found)
        self._version += 1
        self._changed.notify_all()

    def grantable(self, policy: SchedulingPolicy) -> dict[str, Card]:
        """Cards by id, with the node's over-commitment applied to their memory and cores."""
        memory, cores = policy.factors(self.as_node())
        return {card.id: _grown(card, memory, cores) for card in self._cards}


def _in_hands(card: Card, allocator: Allocator) -> Card:
    return card if card.allocator is allocator else replace(card, allocator=allocator)


def _grown(card: Card, memory: float, cores: float) -> Card:
    return card.overcommitted(memory, cores) if (memory, cores) != (1.0, 1.0) else card
