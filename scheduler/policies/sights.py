"""What a workload sees of a fleet: cards of one kind that the same classes of pods may take are one sight.

A class bars cards of a kind one by one (ids) or node by node (selectors, taints). `Barriers` says which classes bar a
card, as a bitmask, so that all that is computed of cards is computed once a sight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kerf.values.device import Card
from scheduler.policies.workload import Target


@dataclass(frozen=True, slots=True)
class Sight:
    """An example of some cards, and the classes that may not take them: bits in the target's order."""

    card: Card
    barred: int = 0


@dataclass(frozen=True, slots=True)
class Barriers:
    """Which classes of a target bar which cards, beside those of kinds that they do not accept."""

    demands: Mapping[str, int] = field(default_factory=dict)
    """What classes demand of nodes, with the bits of these classes."""
    only: int = 0
    """The classes that take named cards alone."""
    named: Mapping[str, int] = field(default_factory=dict)
    """By id of a card, the classes of `only` that name it."""
    avoided: Mapping[str, int] = field(default_factory=dict)
    """By id of a card, the classes that avoid it."""

    @classmethod
    def of(cls, target: Target) -> "Barriers":
        """Read the classes."""
        demands: dict[str, int] = {}
        named: dict[str, int] = {}
        avoided: dict[str, int] = {}
        only = 0
        for i, (kind, _) in enumerate(target.kinds):
            selection = kind.reach.selection
            only |= 1 << i if selection.use_ids else 0
            for words, bits in (
                ((kind.reach.nodes,), demands),
                (selection.use_ids, named),
                (selection.avoid_ids, avoided),
            ):
                for word in words:
                    bits[word] = bits.get(word, 0) | 1 << i
        return cls(demands, only, named, avoided)

    @property
    def by_card(self) -> bool:
        """Whether cards of one node may differ."""
        return bool(self.named or self.avoided)

    def by_nodes(self, meant: Sequence[bool]) -> int:
        """The classes that bar a node which is meant for pods with some of the demands, in their order."""
        return sum(bits for bits, is_meant in zip(self.demands.values(), meant, strict=True) if not is_meant)

    def simpler(self) -> "Barriers":
        """Without the ids; without anything, where there are none."""
        return Barriers(self.demands) if self.by_card else Barriers()

    def on_card(self, card_id: str) -> int:
        """The classes that bar a card by its id."""
        return (self.only & ~self.named.get(card_id, 0)) | self.avoided.get(card_id, 0)
