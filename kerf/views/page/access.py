"""What a person sees of a row: the namespaces whose pods they may list, and nothing that names another one.

Amounts of a card are for those who may list nodes. Without that right, a person sees the cards of their own pods.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.views.page.picture import Row

HIDDEN = "(another namespace)"
_COUNTS = frozenset({"waiting", "shown"})
CARD, POD, CAUSE, ID = 2, 0, 6, 0
"""Positions: of the card in a pod's entry, of the pod's name there, of cause and id in a card's entry."""


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody may list. `everywhere`: the pods of every namespace."""

    everywhere: bool = False
    namespaces: frozenset[str] = frozenset()
    nodes: bool = False
    clusters: bool = False

    def may_see(self, namespace: str) -> bool:
        """Whether the pods of a namespace may be listed."""
        return self.everywhere or namespace in self.namespaces

    @property
    def nothing(self) -> bool:
        """Whether there is nothing that this person may see."""
        return not (self.everywhere or self.namespaces or self.nodes or self.clusters)


@dataclass(frozen=True, slots=True)
class Veil:
    """An access, and the names of the known namespaces that it does not cover: they never appear in a text."""

    access: Access
    _pattern: re.Pattern[str] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, access: Access, known: Iterable[str]) -> "Veil":
        """The veil over what is known."""
        hidden = sorted(
            {name for name in known if name and not access.may_see(name)}, key=lambda name: (-len(name), name)
        )
        if access.everywhere or not hidden:
            return cls(access)
        words = "|".join(re.escape(name) for name in hidden)
        # A name may be followed by a pod's or a workload's, which belongs to it.
        return cls(access, re.compile(rf"(?<![A-Za-z0-9.-])(?:{words})(?:/[A-Za-z0-9./@_-]*)?(?![A-Za-z0-9-])"))

    def text(self, words: str) -> str:
        """A sentence without hidden names."""
        return words if self._pattern is None else self._pattern.sub(HIDDEN, words)

    def row(self, section: str, row: Row) -> Row | None:
        """What is seen of a row; None for nothing."""
        access = self.access
        match section:
            case "nodes":
                return self._node(row)
            case "waiting" | "gangs":
                return self._words(row) if access.may_see(str(row["ns"])) else None
            case "tenants":
                return self._tenant(row)
            case "costs":
                return self._cost(row)
            case "clusters":
                return self._words(row) if access.clusters else None
            case _:
                return self._about(row)

    def key(self, section: str, key: str) -> str:
        """A row's key without hidden names. Nodes and waiting pods (by uid) keep theirs."""
        return key if section in {"nodes", "waiting"} else self.text(key)

    # ---- inside
    def _node(self, row: Row) -> Row | None:
        access = self.access
        if access.everywhere and access.nodes:
            return row
        pods = [pod for pod in row["pods"] if access.may_see(str(pod[POD]).partition("/")[0])]
        if not access.nodes and not pods:
            return None
        cards = [self._card(card) for card in row["cards"]]
        if not access.nodes:
            mine = sorted({int(pod[CARD]) for pod in pods})
            cards = [cards[number] for number in mine]
            pods = [[*pod[:CARD], mine.index(pod[CARD]), *pod[CARD + 1 :]] for pod in pods]
        if self._pattern is None and len(pods) == len(row["pods"]) and access.nodes:
            return row
        return {**row, "cards": cards, "pods": pods, "problem": self.text(str(row["problem"]))}

    def _card(self, card: list[Any]) -> list[Any]:
        return card if self._pattern is None else [*card[:CAUSE], self.text(str(card[CAUSE])), *card[CAUSE + 1 :]]

    def _tenant(self, row: Row) -> Row | None:
        """A tenant is shown to those who may list pods in one of its namespaces."""
        names = [name for name in row["namespaces"] if self.access.may_see(str(name))]
        if not names and not self.access.everywhere:
            return None
        return self._words({**row, "namespaces": names})

    def _cost(self, row: Row) -> Row | None:
        """The cards' cost is for those who may list nodes; a tenant's or a namespace's for those who see it."""
        names = row.get("namespaces")
        if names is None:
            return row if self.access.nodes else None
        seen = [name for name in names if self.access.may_see(str(name))]
        whole = len(seen) == len(names)
        return self._words(row) if seen and whole else None

    def _about(self, row: Row) -> Row | None:
        """How many pods wait in all is for those who may list them all."""
        if self.access.nothing:
            return None
        return row if self.access.everywhere else {key: value for key, value in row.items() if key not in _COUNTS}

    def _words(self, row: Row) -> Row:
        return row if self._pattern is None else {key: self._hide(value) for key, value in row.items()}

    def _hide(self, value: Any) -> Any:  # noqa: ANN401
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {key: self._hide(each) for key, each in value.items()}
            case list() | tuple():
                return [self._hide(each) for each in value]
            case _:
                return value


def seen_by(veil: Veil, section: str, rows: Mapping[str, Row]) -> dict[str, Row]:
    """The rows of a section that a person sees, each as they see it."""
    found = ((key, veil.row(section, row)) for key, row in rows.items())
    return {veil.key(section, key): row for key, row in found if row is not None}
