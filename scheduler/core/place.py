"""Choose the cards of a pod on one node, all its containers jointly. Exact, deterministic, pure.

Sidecars and apps run together, so they share what is free; a plain init container runs alone beside the sidecars that
were declared before it, so it may reuse cards that the apps will hold. The search tries the running containers,
hardest first, over cards in order of preference, then the init containers; a dead end steps back. Cards that are equal
for all that matters are tried once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from kerf.values.alike import group_of, grouped
from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stage
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, ContainerGrant, Grant, Slice
from kerf.values.places import Place
from kerf.values.slicing import Size, alone_on, free_places, size_on
from kerf.values.verdict import FIT, Misfit, Reason
from scheduler.core.fit import fit, fit_alone
from scheduler.core.preference import Preference, Weights, prefer
from scheduler.core.state import CardState, NodeState

STEPS = 5_000
"""Card choices tried before the search gives up with JOINT. Eight cards and four containers need far fewer."""
ANY = Selection()
_NOTHING = Size(0, 0)  # of a card that gives no slice: it is never chosen
PERCENT_MIB = 800
"""MiB that a percent counts in the order of the search: a card of about 80 GB. The order only speeds the search up."""


def place(
    ask: PodAsk,
    node: NodeState,
    cards: tuple[str, ...],
    weights: Weights,
    *,
    check_node: bool = True,
    price: Mapping[str, int] | None = None,
) -> Grant | Misfit:
    """The pod's grant on this node, or why there is none.

    `cards` is an ordered chain of card policies, `weights` those of slots, cores and memory. `check_node` includes the
    node's own CPU, memory and cordon. `price` maps card ids to keys (lowest first) that stand where the chain says
    `binpack`. Slices are in the order of card index. A pod that asks for no card gets an empty grant.
    """
    preference = prefer(cards, weights, price)
    misfit = _first_misfit(ask, node, preference, check_node)
    if misfit:
        return misfit
    search = _Search(ask, node, preference)
    if search.run():
        return search.grant()
    return Misfit(Reason.JOINT, len(ask.containers), search.deepest, ask.containers[search.deepest_container].name)


def grant_of(container: ContainerAsk, cards: Sequence[tuple[Card, int]]) -> Grant | None:
    """What a container gets that is alone in its pod and has slices of these cards, of which these places are used.

    None where a card has no free place for the slice.
    """
    slices = []
    for card, used in cards:
        size = size_on(container, card) or _NOTHING
        free = free_places(size, card, used)[:1]
        if size.places and not free:
            return None
        slices.append(Slice(card.id, card.vendor, size.memory_mib, size.cores, free[0].adds if free else 0))
    return Grant((ContainerGrant(container.name, tuple(slices)),))


def node_misfit(ask: PodAsk, node: NodeState) -> Misfit | None:
    """Why the node itself cannot take the pod: cordoned, CPU (thousandths) or memory (MiB)."""
    if not node.schedulable:
        return Misfit(Reason.NODE, detail="cordoned")
    if ask.cpu_milli > node.free_cpu_milli:
        return Misfit(Reason.NODE, ask.cpu_milli, max(node.free_cpu_milli, 0), "cpu")
    if ask.memory_mib > node.free_memory_mib:
        return Misfit(Reason.NODE, ask.memory_mib, max(node.free_memory_mib, 0), "memory")
    return None


def _first_misfit(ask: PodAsk, node: NodeState, preference: Preference, check_node: bool) -> Misfit | None:
    alone = [_container_misfit(container, ask, node, preference) for container in ask.containers]
    misfits = [misfit for misfit in alone if misfit]
    if misfits:
        return min(misfits, key=lambda misfit: misfit.reason)
    return node_misfit(ask, node) if check_node else None


def _container_misfit(container: ContainerAsk, ask: PodAsk, node: NodeState, preference: Preference) -> Misfit | None:
    verdict = fit_alone(container, ask.selection, node, mutex=preference.mutex)
    if isinstance(verdict, Misfit):
        return verdict
    if not preference.topology or container.cards == 1:
        return None
    free = [s for s in node.cards if fit(container, ask.selection, s, mutex=preference.mutex) is FIT]
    most = max(len(island) for island in islands(free, ask.selection))
    return None if most >= container.cards else Misfit(Reason.TOPOLOGY, container.cards, most, container.name)


def islands(states: list[CardState], selection: Selection = ANY) -> list[set[str]]:
    """Groups of card ids that links join, each of cards that are alike where the selection wants it."""
    links: dict[str, set[str]] = {state.card.id: set() for state in states}
    kinds = {state.card.id: group_of(selection, state.card) for state in states}
    for state in states:
        for peer in state.card.links:
            if peer in links and kinds[peer] == kinds[state.card.id]:
                links[state.card.id].add(peer)
                links[peer].add(state.card.id)
    groups: list[set[str]] = []
    for start in links:
        if any(start in group for group in groups):
            continue
        group, frontier = {start}, [start]
        while frontier:
            fresh = links[frontier.pop()] - group
            group |= fresh
            frontier += fresh
        groups.append(group)
    return groups


class _Search:
    """Depth-first over containers; `chosen[c]` holds positions in `node.cards`, None while container c is open.

    `places[c]` has, by position, where on the card the slice lies, for cards that have places.
    """

    def __init__(self, ask: PodAsk, node: NodeState, preference: Preference) -> None:
        self.ask, self.node, self.preference = ask, node, preference
        self.containers = ask.containers
        self.chosen: list[tuple[int, ...] | None] = [None] * len(self.containers)
        self.places: list[dict[int, int]] = [{} for _ in self.containers]
        self.sizes = [
            [size_on(container, state.card) or _NOTHING for state in node.cards] for container in ask.containers
        ]
        self.order = _hardest_first(self.containers)
        self.steps = STEPS
        self.deepest = 0
        self.deepest_container = self.order[0] if self.order else 0

    def run(self, level: int = 0) -> bool:
        if level == len(self.order):
            return True
        container = self.order[level]
        if level > self.deepest:
            self.deepest, self.deepest_container = level, container
        for positions in self._choices(container):
            if positions < self._floor(level):
                continue
            for places in self._places_on(container, positions):
                self.chosen[container], self.places[container] = positions, places
                if self.run(level + 1):
                    return True
                if self.steps <= 0:
                    break
                self.chosen[container], self.places[container] = None, {}
        self.chosen[container], self.places[container] = None, {}
        return False

    def _places_on(self, container: int, positions: tuple[int, ...]) -> Iterator[dict[int, int]]:
        """Where on each of its cards the container's slices may lie, the best first.

        With one container the first free place is as good as any; with several another one may leave them room.
        """
        placed = [position for position in positions if self.sizes[container][position].places]
        free = [self._free_places(container, position) for position in placed]
        if len(self.containers) == 1:
            free = [places[:1] for places in free]
        for chosen in product(*free):
            self.steps -= bool(placed)
            yield {position: place.adds for position, place in zip(placed, chosen, strict=True)}

    def _free_places(self, container: int, position: int) -> tuple[Place, ...]:
        state = self.node.cards[position]
        used = state.used.places + self._beside(container, position)[0].places
        return free_places(self.sizes[container][position], state.card, used)

    def _floor(self, level: int) -> tuple[int, ...]:
        """Containers that ask for the same are interchangeable: they take cards in rising order only."""
        if level == 0:
            return ()
        before, now = self.order[level - 1], self.order[level]
        same = replace(self.containers[before], name="") == replace(self.containers[now], name="")
        return (self.chosen[before] or ()) if same else ()

    def grant(self) -> Grant:
        held: dict[str, tuple[Slice, ...]] = {}
        for ask, sizes, positions, places in zip(self.containers, self.sizes, self.chosen, self.places, strict=True):
            given = [(self.node.cards[p].card, sizes[p], places.get(p, 0)) for p in positions or ()]
            slices = (Slice(card.id, card.vendor, size.memory_mib, size.cores, place) for card, size, place in given)
            # A container that asks for two vendors' cards is here twice, and holds all of them.
            held[ask.name] = (*held.get(ask.name, ()), *slices)
        return Grant(tuple(ContainerGrant(name, slices) for name, slices in held.items()))

    def _choices(self, container: int) -> Iterator[tuple[int, ...]]:
        """Card sets for a container given those chosen so far, the most preferred first, equal ones once."""
        ask = self.containers[container]
        ranked = sorted((self._key(container, p), p) for p in range(len(self.node.cards)) if self._fits(container, p))
        positions = [position for _, position in ranked]
        for group in grouped(self.ask.selection, ask.cards, [self.node.cards[p].card for p in positions]):
            yield from self._subsets([positions[i] for i in group], ask.cards, ())

    def _subsets(self, positions: list[int], count: int, taken: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(taken) == count:
            self.steps -= 1
            if self._joined(taken):
                yield tuple(sorted(taken))
            return
        tried = set()
        for i, position in enumerate(positions):
            if len(positions) - i < count - len(taken) or self.steps <= 0:
                return
            twin = self._twin(position)
            if twin not in tried:
                tried.add(twin)
                yield from self._subsets(positions[i + 1 :], count, (*taken, position))

    def _joined(self, positions: tuple[int, ...]) -> bool:
        if not self.preference.topology or len(positions) == 1:
            return True
        return len(islands([self.node.cards[position] for position in positions])) == 1

    def _twin(self, position: int) -> object:
        """Equal for cards that are interchangeable from here on."""
        state = self.node.cards[position]
        card = state.card
        if self.preference.topology:
            return position
        holders = tuple(c for c, chosen in enumerate(self.chosen) if chosen is not None and position in chosen)
        hardware = (card.vendor, card.memory_mib, card.factory_memory_mib, card.cores, card.slots, card.numa)
        kind = group_of(self.ask.selection, card)
        return hardware, kind, tuple(sizes[position] for sizes in self.sizes), state.used, holders

    def _use(self, container: int, position: int) -> CardUse:
        """What one slice of the container takes of a card."""
        size = self.sizes[container][position]
        return CardUse(size.memory_mib, size.cores, 1, self.places[container].get(position, 0))

    def _beside(self, container: int, position: int) -> tuple[CardUse, bool]:
        """What the pod's own containers hold of the card while this one runs; whether one of them wants it alone."""
        plain_init = self.containers[container].stage is Stage.INIT
        card = self.node.cards[position].card
        use, alone = NO_USE, False
        for other, chosen in enumerate(self.chosen):
            ask = self.containers[other]
            if chosen is None or position not in chosen or ask.stage is Stage.INIT or other == container:
                continue
            if plain_init and (ask.stage is Stage.APP or other > container):
                continue
            use += self._use(other, position)
            alone = alone or alone_on(self.sizes[other][position].cores, card, self.preference.mutex)
        return use, alone

    def _fits(self, container: int, position: int) -> bool:
        held, taken = self._beside(container, position)
        state = self.node.cards[position]
        mutex = self.preference.mutex
        size = self.sizes[container][position]
        if taken or size is _NOTHING or self._elsewhere(container, position):
            return False
        return fit(self.containers[container], self.ask.selection, state, mutex=mutex, held=held, size=size) is FIT

    def _elsewhere(self, container: int, position: int) -> bool:
        """Whether the pod's containers must hold one card of this vendor, and another one holds others alone."""
        vendor = self.containers[container].vendor
        if vendor not in self.ask.selection.same_card:
            return False
        pairs = zip(self.containers, self.chosen, strict=True)
        others = (chosen for ask, chosen in pairs if ask.vendor == vendor and chosen)
        return any(position not in chosen for chosen in others)

    def _key(self, container: int, position: int) -> tuple[int, ...]:
        """Preference among cards; for an init container first of all what it adds to the pod's peak on the card."""
        ask = self.containers[container]
        state = self.node.cards[position]
        held, _ = self._beside(container, position)
        key = self.preference.key(self.sizes[container][position], state.card, state.used + held)
        if ask.stage is not Stage.INIT:
            return key
        size = self.sizes[container][position]
        free = free_places(size, state.card, state.used.places + held.places)
        mine = held + CardUse(size.memory_mib, size.cores, 1, free[0].adds if free else 0)
        more = mine.peak(self._peak(position)) - self._peak(position)
        return (more.slots, more.memory_mib, more.cores, *key)

    def _peak(self, position: int) -> CardUse:
        peak = running = NO_USE
        for container, chosen in enumerate(self.chosen):
            ask = self.containers[container]
            if chosen is None or position not in chosen:
                continue
            use = self._use(container, position)
            if ask.stage is Stage.INIT:
                peak = peak.peak(self._beside(container, position)[0] + use)
            else:
                running += use
        return peak.peak(running)


def hardness(ask: ContainerAsk) -> tuple[int, int, int]:
    """Cards, cores and MiB (a percentage counts as of a large card): the greater, the fewer places there are."""
    memory = ask.memory_mib if ask.memory_mib is not None else (ask.memory_percent or 0) * PERCENT_MIB
    return ask.cards, ask.cores, memory


def _hardest_first(containers: tuple[ContainerAsk, ...]) -> list[int]:
    """Those that run at once before the init containers; sorting is stable, also in reverse."""
    order = sorted(range(len(containers)), key=lambda i: hardness(containers[i]), reverse=True)
    return sorted(order, key=lambda i: containers[i].stage is Stage.INIT)
