"""Who borrows, and so may lose pods to a tenant that asks for its guarantee. Pure.

A pod may leave only while its owner holds more than is guaranteed to it, in a dimension of which the pod holds some. So
at most the pod that lies across that line takes an owner below it. The promise follows: once no other owner borrows,
what all hold is no more than the sum of the guarantees, and that is no more than the cards give.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from kerf.values.quota import DIMENSIONS, NOTHING, Amount, Bound, Usage

NO_TENANT = ""
"""All namespaces without a tenant are one owner. What no tenant is guaranteed is theirs to keep."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an owner is guaranteed and holds, by class. A class that is not listed is not guaranteed."""

    guaranteed: Mapping[str, Bound] = field(default_factory=dict)
    held: Mapping[str, Amount] = field(default_factory=dict)

    def lends(self, part: Usage) -> bool:
        """Whether the owner borrows something of which this part is one."""
        return any(
            borrowed(self.held.get(slug, NOTHING), amount, self.guaranteed.get(slug, Bound(0, 0, 0)))
            for slug, amount in part.by
        )

    @property
    def borrows(self) -> bool:
        """Whether the owner holds more than it is guaranteed of anything."""
        return self.lends(Usage.build(self.held))

    @property
    def is_below(self) -> bool:
        """Whether the owner holds less than it is guaranteed of some class in everything that is limited there."""
        return any(
            all(bound is None or getattr(self.held.get(slug, NOTHING), name) < bound for name, bound in bounds)
            and any(bound for _, bound in bounds)
            for slug, guaranteed in self.guaranteed.items()
            for bounds in [[(name, guaranteed.of(name)) for name in DIMENSIONS]]
        )

    def only(self, classes: Collection[str]) -> "Standing":
        """The same for some classes alone; for all of them where none is named."""
        return replace(self, held={slug: held for slug, held in self.held.items() if not classes or slug in classes})

    def without(self, part: Usage) -> "Standing":
        """The same once the part is gone."""
        less = {slug: self.held.get(slug, NOTHING) - amount for slug, amount in part.by}
        return replace(self, held={**self.held, **less})


def borrowed(held: Amount, part: Amount, guaranteed: Bound) -> bool:
    """Whether more is held than is guaranteed, in a dimension of which the part has some."""
    return any(
        getattr(part, name) and bound is not None and getattr(held, name) > bound
        for name in DIMENSIONS
        for bound in [guaranteed.of(name)]
    )


def may_leave(standings: Mapping[str, Standing], parts: Iterable[tuple[str, Usage]]) -> bool:
    """Whether these parts, each with its owner, may all leave: one after the other, the smallest first."""
    left = dict(standings)
    for owner, part in sorted(parts, key=lambda each: each[1].total):
        standing = left.get(owner, Standing())
        if not standing.lends(part):
            return False
        left[owner] = standing.without(part)
    return True
