"""Scratch books of a fleet as arrays of nodes by cards: what still fits while a plan is being made.

Mutable, and new for every plan. Nodes are in the order of their names, so the index of a node breaks ties.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kerf.values.alike import Group, group_of
from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stages
from kerf.values.device import Card
from kerf.values.grant import CardUse, Grant, card_uses
from kerf.values.places import Place
from kerf.values.slicing import WHOLE, Size, alone_on, size_on
from scheduler.core.fit import accepts
from scheduler.core.state import CardState, NodeState
from scheduler.solver.problem import Movable, PodClass, QuotaRoom
from scheduler.solver.rooms import Drawn, Rooms

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
FAR = 1 << 40  # a cost no real card reaches
COST_STEP = 100  # costs closer than this are equal, so that nodes fill in the order of CPU and name
EMPTY_COST = 8_000  # opening an empty card costs more than the worst fit on an opened one (4,000)


def stages_of(ask: PodAsk) -> Stages:
    """The asking containers with their stages, as `card_uses` wants them."""
    return tuple((container.name, container.stage) for container in ask.containers)


_NO_SLICE = Size(0, 0)


def _slice_key(container: ContainerAsk) -> tuple[object, ...]:
    """Equal for containers that get equal slices of every card."""
    amounts = container.memory_mib, container.memory_percent, container.cores
    return container.vendor, container.cards, *amounts, container.group


def _hardware(card: Card) -> tuple[object, ...]:
    return card.vendor, card.model, card.mode, card.factory_memory_mib, card.memory_mib, card.cores, card.slicing


class Draft:
    """Free capacity of every card and node. `take` and `give` keep arrays and `states` in step."""

    def __init__(self, nodes: Iterable[NodeState], quotas: tuple[QuotaRoom, ...] = ()) -> None:
        self.states = sorted(nodes, key=lambda node: node.name)
        self.rooms = Rooms(quotas, (held.card for state in self.states for held in state.cards))
        self.index = {state.name: i for i, state in enumerate(self.states)}
        width = max((len(state.cards) for state in self.states), default=0)
        self.shape = (len(self.states), max(1, width))
        self.memory, self.cores, self.slots = (np.zeros(self.shape, np.int64) for _ in range(3))
        self.places = np.zeros(self.shape, np.int64)
        self.factory = np.zeros(self.shape, np.int64)
        self.room = np.ones((2, *self.shape), np.int64)  # grantable memory and cores, at least 1
        self.usable, self.empty, self.spent, self.single = (np.zeros(self.shape, np.bool_) for _ in range(4))
        self.cpu = np.array([state.free_cpu_milli for state in self.states], np.int64)
        self.ram = np.array([state.free_memory_mib for state in self.states], np.int64)
        self.kind = np.full(self.shape, -1, np.int64)
        self.where: dict[str, tuple[int, int]] = {}
        self._kinds: list[Card] = []
        self._groups: dict[tuple[bool, bool], Ints] = {}
        self._accepted: dict[tuple[object, ...], Flags] = {}
        self._wanted: dict[tuple[object, ...], tuple[Ints, Ints]] = {}
        self._places: dict[tuple[object, ...], tuple[Ints, ...]] = {}
        self._alone: dict[tuple[object, ...], Flags] = {}
        self._closed_to: dict[frozenset[str] | None, Flags] = {}
        kinds: dict[tuple[object, ...], int] = {}
        for n, state in enumerate(self.states):
            for g, held in enumerate(state.cards):
                self.factory[n, g] = held.card.factory_memory_mib
                self.kind[n, g] = kinds.setdefault(_hardware(held.card), len(kinds))
                self._kinds += [held.card] * (len(kinds) - len(self._kinds))
                self.where[held.card.id] = (n, g)
                self.single[n, g] = alone_on(WHOLE, held.card)
                self.room[:, n, g] = max(1, held.card.memory_mib), max(1, held.card.cores)
                self._read(n, g, held)

    def card(self, where: tuple[int, int]) -> Card:
        """The card at a position."""
        return self.states[where[0]].cards[where[1]].card

    def _read(self, n: int, g: int, held: CardState) -> None:
        free = held.free
        self.memory[n, g], self.cores[n, g], self.slots[n, g] = free.memory_mib, free.cores, free.slots
        self.empty[n, g], self.places[n, g] = held.used.slots == 0, held.used.places
        self.spent[n, g] = held.used.cores >= held.card.cores > 0
        self.usable[n, g] = held.usable and self.states[n].schedulable

    def take(self, n: int, ask: PodAsk, grant: Grant) -> None:
        """Count a pod on node `n`."""
        self._book(n, ask, card_uses(grant, stages_of(ask)), 1)
        self.rooms.count(self.drawn(ask, grant), 1)

    def give(self, n: int, ask: PodAsk, grant: Grant) -> None:
        """Take a pod off node `n` that `take` counted there."""
        self._book(n, ask, card_uses(grant, stages_of(ask)), -1)
        self.rooms.count(self.drawn(ask, grant), -1)

    def drawn(self, ask: PodAsk, grant: Grant) -> Drawn:
        """What the pod takes of its quotas with this grant."""
        return self.rooms.drawn(ask, grant, stages_of(ask))

    def leave(self, movable: Movable) -> None:
        """Take a running pod off its node."""
        held = movable.holding
        self._book(self.index[held.node], movable.ask, card_uses(held.grant, held.stages), -1)
        self.rooms.count(self.rooms.drawn(movable.ask, held.grant, held.stages), -1)

    def stay(self, movable: Movable) -> None:
        """Undo `leave`."""
        held = movable.holding
        self._book(self.index[held.node], movable.ask, card_uses(held.grant, held.stages), 1)
        self.rooms.count(self.rooms.drawn(movable.ask, held.grant, held.stages), 1)

    def _book(self, n: int, ask: PodAsk, uses: Mapping[str, CardUse], sign: int) -> None:
        state = self.states[n]
        cards = list(state.cards)
        touched = [g for g, held in enumerate(cards) if held.card.id in uses]
        for g in touched:
            use = uses[cards[g].card.id]
            cards[g] = replace(cards[g], used=cards[g].used + use if sign > 0 else cards[g].used - use)
        cpu, ram = state.free_cpu_milli - sign * ask.cpu_milli, state.free_memory_mib - sign * ask.memory_mib
        self.states[n] = replace(state, cards=tuple(cards), free_cpu_milli=cpu, free_memory_mib=ram)
        self.cpu[n], self.ram[n] = cpu, ram
        for g in touched:
            self._read(n, g, cards[g])

    def set_usable(self, where: tuple[int, int], usable: bool) -> None:
        """Open a card to new slices, or close it."""
        n, g = where
        cards = self.states[n].cards
        changed = replace(cards[g], usable=usable)
        self.states[n] = replace(self.states[n], cards=(*cards[:g], changed, *cards[g + 1 :]))
        self._read(n, g, changed)

    def accepted(self, klass: PodClass, container: ContainerAsk) -> Flags:
        """Cards that could ever hold a slice of the container, as far as quotas leave room for the pod."""
        selection = self.rooms.confined(klass.ask)
        if selection is None:
            return np.zeros(self.shape, np.bool_)
        key = (selection, *_slice_key(container))
        if key not in self._accepted:
            words = replace(selection, use_ids=(), avoid_ids=())
            of_kind = [size_on(container, card) is not None and accepts(words, container, card) for card in self._kinds]
            flags: Flags = np.array([*of_kind, False])[self.kind]  # the padding is of kind -1, the last
            if selection.use_ids:
                flags &= self._named(selection.use_ids)
            self._accepted[key] = flags & ~self._named(selection.avoid_ids)
        return self._accepted[key]

    def _named(self, ids: tuple[str, ...]) -> Flags:
        flags = np.zeros(self.shape, np.bool_)
        for card_id in ids:
            if card_id in self.where:
                flags[self.where[card_id]] = True
        return flags

    def wanted(self, container: ContainerAsk) -> tuple[Ints, Ints]:
        """MiB and percent of cores of the slice that each card gives the container; 0 where it gives none."""
        key = _slice_key(container)
        if key not in self._wanted:
            sizes = [*(size_on(container, card) or _NO_SLICE for card in self._kinds), _NO_SLICE]
            memory, cores = ([size.memory_mib for size in sizes], [size.cores for size in sizes])
            self._wanted[key] = np.array(memory, np.int64)[self.kind], np.array(cores, np.int64)[self.kind]
        return self._wanted[key]

    def _blocked(self, container: ContainerAsk) -> tuple[Ints, ...]:
        """Place by place, what must be free there; nothing where slices lie anywhere."""
        key = _slice_key(container)
        if key not in self._places:
            places = [places_for(container, card) for card in self._kinds]
            most = max(map(len, places), default=0)
            rows = [[place.blocked for place in of_kind] or [0] for of_kind in (*places, ())]
            table = np.array([(row + row[-1:] * most)[:most] for row in rows], np.int64).reshape(len(rows), most)
            self._places[key] = tuple(column[self.kind] for column in table.T)
        return self._places[key]

    def alone(self, klass: PodClass, container: ContainerAsk) -> Flags:
        """Cards on which the container would be alone."""
        key = (klass.mutex, *_slice_key(container))
        if key not in self._alone:
            whole: Flags = self.single & (self.wanted(container)[1] >= WHOLE)
            self._alone[key] = np.full(self.shape, True) if klass.mutex else whole
        return self._alone[key]

    def fitting(self, klass: PodClass, container: ContainerAsk) -> Flags:
        """Cards that can take one slice of the container right now."""
        memory, cores = self.wanted(container)
        fits = self.accepted(klass, container) & self.usable & (self.slots >= 1) & (cores <= self.cores)
        fits &= memory <= self.memory
        if blocked := self._blocked(container):
            fits &= np.logical_or.reduce([(self.places & one) == 0 for one in blocked])
        alone = self.alone(klass, container)
        if alone.any():
            fits &= self.empty | ~alone
        return fits if container.cores else fits & ~(self.spent & (cores == 0))

    def card_costs(self, klass: PodClass, container: ContainerAsk) -> Ints:
        """What one slice of the container costs on each card, `FAR` where it does not fit.

        Permille of the card left over afterwards, memory thrice, plus `EMPTY_COST` on an unused card.
        """
        wanted = self.wanted(container)
        memory = (self.memory - wanted[0]) * 3_000 // self.room[0]
        cores = (self.cores - wanted[1]) * 1_000 // self.room[1]
        return np.where(self.fitting(klass, container), memory + cores + EMPTY_COST * self.empty, FAR)

    def node_costs(self, klass: PodClass) -> Ints:
        """What a pod of the class costs on each node by its hungriest container, `FAR` and more where it cannot fit."""
        ask = klass.ask
        total: Ints = np.zeros(self.shape[0], np.int64)
        for container in ask.containers:
            total = np.maximum(total, self._cheapest(klass, container))
        total[(self.cpu < ask.cpu_milli) | (self.ram < ask.memory_mib)] = FAR
        total[self._closed(klass.nodes)] = FAR
        return total

    def _closed(self, offered: frozenset[str] | None) -> Flags:
        if offered not in self._closed_to:
            closed = [not s.schedulable or (offered is not None and s.name not in offered) for s in self.states]
            self._closed_to[offered] = np.array(closed, np.bool_)
        return self._closed_to[offered]

    def _cheapest(self, klass: PodClass, container: ContainerAsk) -> Ints:
        if container.cards > self.shape[1]:
            return np.full(self.shape[0], FAR, np.int64)
        costs = self.card_costs(klass, container)
        if not klass.ask.selection.alike or container.cards == 1:
            return sum_of_least(costs, container.cards)
        groups = self.groups(klass.ask.selection)
        per_group = [
            sum_of_least(np.where(groups == group, costs, FAR), container.cards) for group in np.unique(groups)
        ]
        least: Ints = np.minimum.reduce(per_group)
        return least

    def groups(self, selection: Selection) -> Ints:
        """Equal numbers for cards that one container may hold together."""
        key = selection.same_numa, selection.same_model
        if key not in self._groups:
            numbers: dict[Group, int] = {}
            self._groups[key] = groups = np.full(self.shape, -1, np.int64)
            for n, state in enumerate(self.states):
                for g, held in enumerate(state.cards):
                    groups[n, g] = numbers.setdefault(group_of(selection, held.card), len(numbers))
        return self._groups[key]

    def best_first(self, klass: PodClass) -> Ints:
        """Nodes that may hold a pod of the class, best fit first; exact where the class is sliced."""
        costs = self.node_costs(klass)
        nodes = np.flatnonzero(costs < FAR)
        order: Ints = np.lexsort((nodes, self.cpu[nodes], costs[nodes] // COST_STEP))
        ranked: Ints = nodes[order]
        return ranked


def places_for(container: ContainerAsk, card: Card) -> tuple[Place, ...]:
    """Where on the card the container's slice may lie; nothing where it may lie anywhere."""
    size = size_on(container, card)
    return size.places if size else ()


def sum_of_least(costs: Ints, count: int) -> Ints:
    """By node, the sum of the `count` lowest costs of its cards."""
    if count == 1:
        only: Ints = costs.min(axis=1)
        return only
    least = np.partition(costs, count - 1, axis=1)[:, :count]
    total: Ints = least.sum(axis=1)
    return total
