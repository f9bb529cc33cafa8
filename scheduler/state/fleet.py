"""The fleet as arrays: the one mutable index of every card, kept up to date by watch events and binds.

Single writer; the caller holds the store's lock. A row is a node, a column one of its cards in the order of index.
What pods hold is kept by card id, apart from the inventory: a card that disappears and comes back, or a node that is
announced after its pods, finds its tenants again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from kerf.values.allocator import Allocator
from kerf.values.ask import Reach
from kerf.values.device import BY_INDEX, Card
from kerf.values.grant import NO_USE, CardUse
from kerf.values.node import Node
from kerf.values.slicing import sliceable
from scheduler.core.columns import Columns, Ints
from scheduler.core.node_list import NodeList, Roster
from scheduler.core.state import CardState, NodeState
from scheduler.state.facts import Facts, all_linked, hardware_of

UNLIMITED = 2**40
"""Free CPU or memory of a node that does not report any: it limits nothing."""
ANY_CARD = Reach()
_FIRST_ROWS = 64
_FIRST_WIDTH = 8
_MOST_FACTS = 1024
_ROSTERS = 4
"""Rosters whose rows are remembered: those of the questions, and that of the express lane."""


@dataclass(slots=True)
class _Held:
    """What pods hold on a node, known or not."""

    cards: dict[str, CardUse] = field(default_factory=dict)
    cpu_milli: int = 0
    memory_mib: int = 0

    def __bool__(self) -> bool:
        return bool(self.cards or self.cpu_milli or self.memory_mib)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A known node: its row, its cards with over-commitment applied, and the column of each."""

    row: int
    node: Node
    cards: tuple[Card, ...]
    usable: tuple[bool, ...]
    column: dict[str, int]


class Fleet:
    """Every node's cards, what is held of them, and a version per row that grows with each change."""

    def __init__(self) -> None:
        self.columns = Columns.empty(_FIRST_ROWS, _FIRST_WIDTH)
        self.versions: Ints = np.zeros(_FIRST_ROWS, np.int64)
        self.version = 0
        """Grows with every change of any row."""
        self.layout = 0
        """Grows when rows change their meaning: a node comes, goes or gets other cards."""
        self.described: Ints = np.zeros(_FIRST_ROWS, np.int64)
        """By row, the version with which the node itself last changed, whatever pods hold."""
        self.kinds: list[Card] = []
        """An example of each kind of card (vendor, model, mode, hardware memory, fixed sizes), by the number in
    `columns.kind`."""
        self.on_charge: Callable[[Mapping[str, CardUse], int, str, Reach], None] | None = None
        """Called with what each charged pod holds, its CPU, the vendor of its cards, and which it may take."""
        self.charges = 0
        self.releases = 0
        """How many pods with cards were charged and released so far."""
        self.models: tuple[str, ...] = ()
        """Every model that was ever seen, sorted."""
        self._kind_of: dict[tuple[object, ...], int] = {}
        self._model_of: dict[tuple[str, str], int] = {}
        self._hardware_of: dict[object, int] = {}
        self._facts: dict[object, Facts] = {}
        self._entries: dict[str, _Entry] = {}
        self._names: list[str | None] = [None] * _FIRST_ROWS
        self._vacant = list(range(_FIRST_ROWS - 1, -1, -1))
        self._held: dict[str, _Held] = {}
        self._rows: dict[str, int] = {}
        self._occupied: dict[str, dict[str, int]] = {}
        """By node, the pods that hold cards without a grant, and how many."""
        self._ranks: tuple[int, Ints] | None = None
        self._roster_rows: dict[Roster, tuple[tuple[int, int], Ints]] = {}

    # ---- changes
    def put_node(self, node: Node, factors: tuple[float, float] = (1.0, 1.0)) -> None:
        """Insert a node or replace all that is known of it. `factors` over-commit its memory and cores."""
        cards = tuple(
            card.overcommitted(*factors) if factors != (1.0, 1.0) else card for card in sorted(node.cards, key=BY_INDEX)
        )
        usable = tuple(_usable(card, node) for card in cards)
        known = self._entries.get(node.name)
        row = known.row if known else self._new_row(node.name)
        entry = _Entry(row, node, cards, usable, {card.id: i for i, card in enumerate(cards)})
        self._entries[node.name] = entry
        self._rows[node.name] = row
        if len(cards) > self.columns.present.shape[1]:
            self._grow(len(self._names), 2 * len(cards))
        if known is None or known.cards != cards:
            self.layout += 1
        self._write(entry, fresh=known is None)

    def remove_node(self, name: str) -> None:
        """Forget a node's inventory; what its pods hold stays known."""
        entry = self._entries.pop(name, None)
        self._rows.pop(name, None)
        if entry is None:
            return
        self.columns.clear(entry.row)
        self._names[entry.row] = None
        self._vacant.append(entry.row)
        self._changed(entry.row)
        self.described[entry.row] = self.version
        self.layout += 1

    def charge(
        self,
        node_name: str,
        uses: Mapping[str, CardUse],
        cpu_milli: int,
        memory_mib: int,
        reach: Reach = ANY_CARD,
        vendor: str = "",
    ) -> None:
        """Count what a pod holds of a node's cards, CPU and memory.

        `reach`: which cards of the vendor it might as well hold. The node need not be known yet.
        """
        if (held := self._held.get(node_name)) is None:
            held = self._held[node_name] = _Held()
        self.charges += bool(uses)
        cards = held.cards
        for card_id, use in uses.items():
            before = cards.get(card_id)
            cards[card_id] = use if before is None else before + use
        self._book(node_name, held, uses, (cpu_milli, memory_mib))
        if self.on_charge is not None:
            self.on_charge(uses, cpu_milli, vendor, reach)

    def release(self, node_name: str, uses: Mapping[str, CardUse], cpu_milli: int, memory_mib: int) -> None:
        """Take back what `charge` counted, called with the same arguments."""
        held = self._held.setdefault(node_name, _Held())
        self.releases += bool(uses)
        for card_id, use in uses.items():
            held.cards[card_id] = held.cards.get(card_id, NO_USE) - use
        self._book(node_name, held, uses, (-cpu_milli, -memory_mib))
        for card_id in uses:
            if held.cards[card_id] == NO_USE:
                del held.cards[card_id]
        if not held:
            del self._held[node_name]

    def occupy(self, node_name: str, pod: str, cards: int) -> None:
        """A pod holds cards of a node without a grant (0: no longer). Its other cards may be any, so none is given."""
        pods = self._occupied.setdefault(node_name, {})
        if cards:
            pods[pod] = cards
        else:
            pods.pop(pod, None)
        if not pods:
            del self._occupied[node_name]
        if node_name in self._entries:
            self._write(self._entries[node_name])

    # ---- questions
    def occupied(self, name: str) -> Mapping[str, int]:
        """The pods that hold cards of a node without a grant, and how many."""
        return self._occupied.get(name, {})

    def occupied_nodes(self) -> list[str]:
        """The nodes on which pods hold cards without a grant, sorted."""
        return sorted(self._occupied)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Known nodes, sorted."""
        return sorted(self._entries)

    def row(self, name: str) -> int:
        """A node's row, -1 if it is not known."""
        entry = self._entries.get(name)
        return entry.row if entry else -1

    def name(self, row: int) -> str:
        """The node in a row. Raises KeyError where there is none."""
        name = self._names[row]
        if name is None:
            raise KeyError(row)
        return name

    def rows(self, names: Sequence[str]) -> Ints:
        """Row numbers of nodes, -1 for an unknown one."""
        if isinstance(names, NodeList):
            return self._rows_of(names.roster)[names.numbers]
        if len(names) < 2:
            return np.array([self._rows.get(name, -1) for name in names], np.int64)
        try:
            # kube-scheduler rotates its list with every pod, so lists are not worth remembering.
            return np.array(itemgetter(*names)(self._rows), np.int64)
        except KeyError:
            return np.array([self._rows.get(name, -1) for name in names], np.int64)

    def _rows_of(self, roster: Roster) -> Ints:
        """The row of each name of a roster, made again only when rows or names have changed."""
        known, now = self._roster_rows.get(roster), (len(roster.names), self.layout)
        if known is None or known[0] != now:
            if len(self._roster_rows) >= _ROSTERS:
                self._roster_rows.clear()  # the old ones may be in use no longer
            rows = np.array([self._rows.get(name, -1) for name in roster.names], np.int64)
            known = self._roster_rows[roster] = (now, rows)
        return known[1]

    def every_row(self) -> Ints:
        """The rows of all known nodes, in the order of their names."""
        return np.fromiter((self._entries[name].row for name in self.names()), np.int64, len(self._entries))

    def ranks(self) -> Ints:
        """Each row's place in the order of node names; rows without a node come last."""
        if self._ranks is None or self._ranks[0] != self.layout:
            ranks = np.full(len(self._names), len(self._names), np.int64)
            ranks[self.every_row()] = np.arange(len(self._entries))
            self._ranks = (self.layout, ranks)
        return self._ranks[1]

    def state(self, name: str) -> NodeState:
        """What is free on a node, as exact values. An unknown node has no cards and says so."""
        entry = self._entries.get(name)
        if entry is None:
            return NodeState(name, (), 0, 0, problem="the scheduler does not know this node", schedulable=False)
        held, free = self._held.get(name, _NOTHING), name not in self._occupied
        cards = tuple(
            CardState(card, held.cards.get(card.id, NO_USE), usable and free)
            for card, usable in zip(entry.cards, entry.usable, strict=True)
        )
        cpu, memory = _free(entry.node, held)
        return NodeState(name, cards, cpu, memory, entry.node.problem, entry.node.schedulable)

    def version_of(self, name: str) -> int:
        """The version with which a node came to be as it is; -1 for one that is not known."""
        entry = self._entries.get(name)
        return int(self.versions[entry.row]) if entry else -1

    def states(self) -> Iterator[NodeState]:
        """Every known node by name. For metrics, dumps and plans; it copies."""
        return (self.state(name) for name in self.names())

    def columns_of(self, row: int) -> Mapping[str, int]:
        """The column of each card in a row."""
        return self._entries[self.name(row)].column

    def node(self, row: int) -> Node | None:
        """The node in a row, None where there is none."""
        name = self._names[row]
        return self._entries[name].node if name is not None else None

    def cards(self, row: int) -> tuple[Card, ...]:
        """The cards of a row by column, over-commitment applied."""
        return self._entries[self.name(row)].cards

    def column(self, row: int, card_id: str) -> int:
        """The column of a card, -1 if the row has no such card."""
        name = self._names[row]
        return self._entries[name].column.get(card_id, -1) if name is not None else -1

    # ---- inside
    def _book(self, name: str, held: _Held, uses: Mapping[str, CardUse], requests: tuple[int, int]) -> None:
        """Write down what has changed, in the columns too if the node is known."""
        held.cpu_milli += requests[0]
        held.memory_mib += requests[1]
        entry = self._entries.get(name)
        if entry is None:
            return
        columns, row = self.columns, entry.row
        for card_id in uses:
            column = entry.column.get(card_id)
            if column is not None:
                use = held.cards[card_id]
                columns.used_memory[row, column] = use.memory_mib
                columns.used_cores[row, column] = use.cores
                columns.used_slots[row, column] = use.slots
                columns.used_places[row, column] = use.places
        columns.cpu[row], columns.node_memory[row] = _free(entry.node, held)
        self._changed(row)

    def _write(self, entry: _Entry, *, fresh: bool = False) -> None:
        """The columns of a node's row; a `fresh` row is empty."""
        row, columns = entry.row, self.columns
        if not fresh:
            columns.clear(row)
        held, free = self._held.get(entry.node.name, _NOTHING), entry.node.name not in self._occupied
        facts, count = self._facts_of(entry.cards), len(entry.cards)
        columns.present[row, :count] = True
        columns.usable[row, :count] = entry.usable if free else False
        for name, values in facts.by_card:
            getattr(columns, name)[row, :count] = values
        columns.hardware[row], columns.linked[row] = facts.hardware, facts.linked
        for card_id, use in held.cards.items():
            if (at := entry.column.get(card_id)) is not None:
                columns.used_memory[row, at], columns.used_cores[row, at] = use.memory_mib, use.cores
                columns.used_slots[row, at], columns.used_places[row, at] = use.slots, use.places
        columns.cpu[row], columns.node_memory[row] = _free(entry.node, held)
        columns.schedulable[row] = entry.node.schedulable
        self._changed(row)
        self.described[row] = self.version

    def _facts_of(self, cards: tuple[Card, ...]) -> Facts:
        """What nodes with such cards have in the columns, made once."""
        hardware = hardware_of(cards)
        key = (hardware, tuple([card.reserved_mib for card in cards]))
        known = self._facts.get(key)
        if known is None:
            if len(self._facts) >= _MOST_FACTS:
                self._facts.clear()
            models = [(card.vendor, card.model) for card in cards]
            by_card = {
                "kind": [self._kind(card) for card in cards],
                "numa": [card.numa for card in cards],
                "model": [self._model_of.setdefault(model, len(self._model_of)) for model in models],
                "factory": [card.factory_memory_mib for card in cards],
                "memory": [card.memory_mib for card in cards],
                "cores": [card.cores for card in cards],
                "slots": [card.slots for card in cards],
            }
            known = self._facts[key] = Facts(
                tuple((name, np.array(values, np.int64)) for name, values in by_card.items()),
                self._hardware_of.setdefault(hardware, len(self._hardware_of)),
                all_linked(cards),
            )
        return known

    def _changed(self, row: int) -> None:
        self.version += 1
        self.versions[row] = self.version

    def _kind(self, card: Card) -> int:
        memory = card.factory_memory_mib, card.reserved_mib
        key: tuple[object, ...] = (card.vendor, card.model, card.mode, card.slicing, *memory)
        if card.slicing.fixed:  # what such a card gives depends on all of it, and it is never over-committed
            key = (*key, card.memory_mib, card.cores)
        if key not in self._kind_of:
            self._kind_of[key] = len(self.kinds)
            self.kinds.append(card)
            self.models = tuple(sorted({*self.models, card.model}))
        return self._kind_of[key]

    def _new_row(self, name: str) -> int:
        if not self._vacant:
            self._grow(2 * len(self._names), self.columns.present.shape[1])
        row = self._vacant.pop()
        self._names[row] = name
        return row

    def _grow(self, rows: int, width: int) -> None:
        before = len(self._names)
        self.columns = self.columns.grown(rows, width)
        self.versions = np.concatenate([self.versions, np.zeros(rows - before, np.int64)])
        self.described = np.concatenate([self.described, np.zeros(rows - before, np.int64)])
        self._names += [None] * (rows - before)
        self._vacant = list(range(rows - 1, before - 1, -1)) + self._vacant
        self.layout += 1


_NOTHING = _Held()


def _free(node: Node, held: _Held) -> tuple[int, int]:
    cpu = node.cpu_milli - held.cpu_milli if node.cpu_milli else UNLIMITED
    memory = node.memory_mib - held.memory_mib if node.memory_mib else UNLIMITED
    return cpu, memory


def _usable(card: Card, node: Node) -> bool:
    """Whether the scheduler may place slices on the card, apart from what pods hold of it."""
    if card.allocator is not Allocator.EXTENDER:
        return False
    return card.healthy and card.id not in node.cordoned and sliceable(card)
