"""Who belongs to which group, both ways, so that a group's members are found without a walk."""

from collections.abc import Iterable


class Members:
    """A member may be in several groups. What is in none is not kept."""

    def __init__(self) -> None:
        self._groups: dict[str, frozenset[str]] = {}
        self._members: dict[str, set[str]] = {}

    def put(self, member: str, groups: Iterable[str]) -> None:
        """A member is in these groups, and no longer in others."""
        for group in self._groups.pop(member, ()):
            self._members[group].discard(member)
            if not self._members[group]:
                del self._members[group]
        if now := frozenset(groups):
            self._groups[member] = now
            for group in now:
                self._members.setdefault(group, set()).add(member)

    def of(self, group: str) -> frozenset[str]:
        """The members of a group."""
        return frozenset(self._members.get(group, ()))
