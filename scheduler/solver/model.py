"""The CP-SAT model's parts: how many pods of a class go where, and what each card and node can hold of them.

Never a boolean per pod and card: pods of one class are counted. A class whose one container asks has an integer per
card it may use (and one per node where it wants several distinct cards); any other class counts ready-made grants.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor

from ortools.sat.python import cp_model

from kerf.values.ask import ContainerAsk, PodAsk
from kerf.values.grant import CardUse, ContainerGrant, Grant, Slice, card_uses
from kerf.values.places import Place, counters
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Amount
from kerf.values.slicing import alone_on
from scheduler.solver.draft import Draft, places_for, stages_of
from scheduler.solver.problem import Movable, PodClass, QuotaRoom
from scheduler.solver.ready import blocked_by, ready_grants
from scheduler.solver.rooms import Drawn, limits

Var = cp_model.IntVar
Expr = cp_model.LinearExpr
Card = tuple[int, int]
"""Node and card by position in the draft."""
TINY = 1e-6  # what floating point may take off a whole bound


@dataclass(frozen=True, slots=True)
class Piece:
    """A variable that counts slices on a card: what one of them uses, and whether it has the card to itself.

    `late` ones come after everything that leaves has left.
    """

    count: Var
    use: CardUse
    alone: bool
    late: bool


@dataclass(frozen=True, slots=True)
class Lying:
    """A variable that counts slices at one place of a card (`kerf.values.places`)."""

    count: Var
    place: Place
    late: bool


@dataclass(frozen=True, slots=True)
class Load:
    """Pods that come to a node (fewer than none where they leave), each with what `ask` requests of it."""

    pods: Expr
    ask: PodAsk
    late: bool


@dataclass(slots=True)
class Spots:
    """Where the pods of one class may go: counts per card and, for ready-made grants, per grant."""

    klass: PodClass
    room: Draft
    """The books by which it is decided where a pod could go."""
    late: bool = False
    """Whether the pods come after everything that leaves has left."""
    slices: dict[tuple[int, int], dict[int, Var]] = field(default_factory=dict)
    """By node and NUMA node (-1 where it does not matter): card to its count of slices."""
    pods: dict[tuple[int, int], Expr] = field(default_factory=dict)
    """By the same key: pods there."""
    ready: dict[int, list[tuple[Grant, Var]]] = field(default_factory=dict)
    places: dict[Card, list[tuple[Var, Place]]] = field(default_factory=dict)
    """Slices by their place, on cards that have places."""

    @property
    def nodes(self) -> set[int]:
        """The nodes on offer."""
        return {n for n, _ in self.pods} | set(self.ready)

    @property
    def total(self) -> Expr:
        """Pods of the class placed anywhere."""
        made = [count for grants in self.ready.values() for _, count in grants]
        return total([*self.pods.values(), *made])

    def on(self, nodes: frozenset[int]) -> Expr:
        """Pods of the class placed on some of the nodes."""
        made = [count for n, grants in self.ready.items() if n in nodes for _, count in grants]
        return total([*(pods for (n, _), pods in self.pods.items() if n in nodes), *made])


class Model:
    """A CP-SAT model over a draft. Add spots (and departures), then `seal` it, then state what is wanted."""

    def __init__(self, draft: Draft, policy: SchedulingPolicy) -> None:
        self.cp = cp_model.CpModel()
        self.draft, self.policy = draft, policy
        self.pieces: dict[Card, list[Piece]] = defaultdict(list)
        self.lying: dict[Card, list[Lying]] = defaultdict(list)
        self.leaving: dict[Card, list[tuple[Var, CardUse]]] = defaultdict(list)
        self.load: dict[int, list[Load]] = defaultdict(list)
        self.coming: dict[tuple[int, str], list[tuple[Expr, Amount]]] = defaultdict(list)
        """What pods take of quotas, by room and class or vendor."""
        self.going: dict[tuple[int, str], list[tuple[Expr, Amount]]] = defaultdict(list)
        self.opened: list[Var] = []
        self.hints: dict[int, tuple[Var, int]] = {}
        self.solution: dict[int, int] = {}
        self.kept: cp_model.CpSolver | None = None
        """Whose answer the solution is."""
        self.value = self.bound = 0

    def integer(self, most: int, name: str) -> Var:
        """A count from 0 to `most`, hinted to be 0 until something is known of it."""
        var = self.cp.new_int_var(0, most, name)
        self.hints[var.index] = (var, 0)
        return var

    def hint(self, var: Var, more: int = 1) -> None:
        """Raise the hint of a count."""
        self.hints[var.index] = (var, self.hints[var.index][1] + more)

    def add_spots(
        self, klass: PodClass, nodes: Iterable[int], seeds: Mapping[int, list[Grant]], late: Draft | None = None
    ) -> Spots:
        """Offer the nodes to a class. `seeds` are grants known to be good, by node: hinted, and always on offer.

        `late` are the books after all that may leave has left, for pods that come then.
        """
        spots = Spots(klass, late or self.draft, late is not None)
        for n in nodes:
            if klass.sliced:
                self._add_slices(spots, n, seeds.get(n, []))
            else:
                self._add_ready(spots, n, seeds.get(n, []))
        return spots

    def _add_slices(self, spots: Spots, n: int, seeds: list[Grant]) -> None:
        container, selection = spots.klass.ask.containers[0], spots.klass.ask.selection
        cards: dict[int, list[int]] = defaultdict(list)
        for g in spots.room.fitting(spots.klass, container)[n].nonzero()[0]:
            apart = selection.alike and container.cards > 1
            cards[int(self.draft.groups(selection)[n, g]) if apart else -1].append(int(g))
        for number, group in sorted(cards.items()):
            if len(group) >= container.cards:
                self._add_group(spots, (n, number), group, seeds)

    def _add_group(self, spots: Spots, key: tuple[int, int], group: list[int], seeds: list[Grant]) -> None:
        container, n = spots.klass.ask.containers[0], key[0]
        counts = {g: self._slices(spots, container, (n, g)) for g in group}
        held = [[self.draft.where[piece.card][1] for piece in seed.containers[0].slices] for seed in seeds]
        here = [cards for cards in held if set(cards) <= set(group)]
        for g in (g for cards in here for g in cards):
            self.hint(counts[g])
        for seed in seeds:
            for piece in seed.containers[0].slices:
                for var, place in spots.places.get(self.draft.where[piece.card], ()):
                    if place.adds == piece.place:
                        self.hint(var)
        spots.slices[key] = counts
        if container.cards == 1:
            spots.pods[key] = total(list(counts.values()))
        else:
            pods = self.integer(len(spots.klass.members), f"pods {key}")
            self.hint(pods, len(here))
            self.cp.add(total(list(counts.values())) == container.cards * pods)
            for count in counts.values():
                self.cp.add(count <= pods)
            spots.pods[key] = pods
        self.load[n].append(Load(spots.pods[key], spots.klass.ask, spots.late))

    def _slices(self, spots: Spots, container: ContainerAsk, where: Card) -> Var:
        card = self.draft.card(where)
        memory, cores = (int(amount[where]) for amount in self.draft.wanted(container))
        use, alone = CardUse(memory, cores, 1), alone_on(cores, card, spots.klass.mutex)
        most = 1 if alone else min(len(spots.klass.members), most_of(use, spots.room, where))
        count = self.integer(most, f"slices {where}")
        self.pieces[where].append(Piece(count, use, alone, spots.late))
        if places := places_for(container, card):
            spots.places[where] = [(self.integer(most, f"place {where} {i}"), p) for i, p in enumerate(places)]
            self.lying[where] += [Lying(var, place, spots.late) for var, place in spots.places[where]]
            self.cp.add(total([var for var, _ in spots.places[where]]) == count)
        if self.draft.rooms.quotas:
            piece = Slice(card.id, card.vendor, use.memory_mib, use.cores)
            grant = Grant((ContainerGrant(container.name, (piece,)),))
            self._draw(self.coming, count, self.draft.drawn(spots.klass.ask, grant))
        return count

    def _draw(self, books: dict[tuple[int, str], list[tuple[Expr, Amount]]], count: Expr, drawn: Drawn) -> None:
        for room, name, amount in drawn:
            books[room, name].append((count, amount))

    def _add_ready(self, spots: Spots, n: int, seeds: list[Grant]) -> None:
        offers = dict.fromkeys([*seeds, *ready_grants(spots.room, n, spots.klass, self.policy)])
        spots.ready[n] = []
        for grant in offers:
            count = self.integer(len(spots.klass.members), f"grant {n}")
            self.hint(count, seeds.count(grant))
            spots.ready[n].append((grant, count))
            self.load[n].append(Load(count, spots.klass.ask, spots.late))
            self._draw(self.coming, count, self.draft.drawn(spots.klass.ask, grant))
            most: dict[str, int] = {}
            for piece in (piece for container in grant.containers for piece in container.slices):
                most[piece.card] = max(most.get(piece.card, 0), piece.cores)
            for card_id, use in card_uses(grant, stages_of(spots.klass.ask)).items():
                where = self.draft.where[card_id]
                whole = alone_on(most[card_id], self.draft.card(where), spots.klass.mutex)
                self.pieces[where].append(Piece(count, use, whole, spots.late))
                if use.places:
                    place = Place(use.places, blocked_by(spots.klass.ask, grant, self.draft.card(where)))
                    self.lying[where].append(Lying(count, place, spots.late))

    def add_departure(self, movable: Movable) -> Var:
        """A running pod that may leave: 1 where it does. It may hold a card that its node does not list any more."""
        held = movable.holding
        gone = self.integer(1, f"gone {held.uid}")
        for card_id, use in card_uses(held.grant, held.stages).items():
            if card_id in self.draft.where:
                self.leaving[self.draft.where[card_id]].append((gone, use))
        self.load[self.draft.index[held.node]].append(Load(-1 * gone, movable.ask, late=True))
        self._draw(self.going, gone, self.draft.rooms.drawn(movable.ask, held.grant, held.stages))
        return gone

    def seal(self, quotas: tuple[QuotaRoom, ...] = (), *, opening: bool = True) -> None:
        """State what cards, nodes and quotas can hold; with `opening`, count the empty cards that get a first slice.

        What is not late must fit before anything has left.
        """
        for where in sorted(self.pieces):
            self._seal_card(where, self.pieces[where], self.leaving.get(where, []))
            if self.leaving.get(where):
                self._seal_card(where, [piece for piece in self.pieces[where] if not piece.late], [])
            if opening and self.draft.empty[where]:
                self._count_opening(where)
        for where in sorted(self.lying):
            self._seal_places(where, self.lying[where], self.leaving.get(where, []))
            if self.leaving.get(where):
                self._seal_places(where, [lying for lying in self.lying[where] if not lying.late], [])
        for n in sorted(self.load):
            early = [load for load in self.load[n] if not load.late]
            self._seal_node(n, self.load[n])
            if len(early) < len(self.load[n]):
                self._seal_node(n, early)
        for room, name in sorted(self.coming):
            for dimension, left in limits(quotas, room, name).items():
                self._seal_quota((room, name), dimension, left)

    def _seal_quota(self, key: tuple[int, str], dimension: str, left: int) -> None:
        """A tenant beyond its limit gets nothing more, but what it has may stay."""
        come, go = (
            [count * getattr(amount, dimension) for count, amount in books.get(key, ()) if getattr(amount, dimension)]
            for books in (self.coming, self.going)
        )
        if come:
            self.cp.add(total(come) <= (left + total(go) if left >= 0 else 0))

    def _seal_node(self, n: int, loads: list[Load]) -> None:
        cpu, ram = max(0, int(self.draft.cpu[n])), max(0, int(self.draft.ram[n]))
        if loads:
            self.cp.add(total([load.pods * load.ask.cpu_milli for load in loads]) <= cpu)
            self.cp.add(total([load.pods * load.ask.memory_mib for load in loads]) <= ram)

    def _seal_card(self, where: Card, pieces: list[Piece], leaving: list[tuple[Var, CardUse]]) -> None:
        state = self.draft.states[where[0]].cards[where[1]]
        for room, amount in ((state.free.memory_mib, _memory), (state.free.cores, _cores), (state.free.slots, _slots)):
            come = [piece.count * amount(piece.use) for piece in pieces if amount(piece.use)]
            go = [gone * -amount(use) for gone, use in leaving if amount(use)]
            if come:
                self.cp.add(total([*come, *go]) <= room)
        if any(piece.alone for piece in pieces):
            alone = total([piece.count for piece in pieces if piece.alone])
            shared = total([piece.count for piece in pieces if not piece.alone])
            stay = state.used.slots - total([gone * use.slots for gone, use in leaving])
            self.cp.add(alone <= 1)
            self.cp.add(shared + stay <= max(state.card.slots, state.used.slots) * (1 - alone))

    def _seal_places(self, where: Card, lying: list[Lying], leaving: list[tuple[Var, CardUse]]) -> None:
        """No slice comes to a place while a counter that has to be zero there is not."""
        held = counters(self.draft.states[where[0]].cards[where[1]].used.places)
        slots = self.draft.states[where[0]].cards[where[1]].card.slots + sum(held)
        for each in lying:
            shut = [d for d, block in enumerate(counters(each.place.blocked)) if block]
            if not shut:
                continue
            here = self.cp.new_bool_var(f"here {where}")
            self.cp.add(each.count <= slots * here)
            self.hints[here.index] = (here, int(self.hints[each.count.index][1] > 0))
            for digit in shut:
                others = [o.count * counters(o.place.adds)[digit] for o in lying if o is not each]
                gone = [var * -counters(use.places)[digit] for var, use in leaving]
                beside = total(others + gone) + held[digit]
                self.cp.add(beside <= slots * (1 - here))
                if counters(each.place.adds)[digit]:
                    self.cp.add(each.count <= 1)

    def _count_opening(self, where: Card) -> None:
        opened = self.integer(1, f"open {where}")
        self.opened.append(opened)
        if any(self.hints[piece.count.index][1] for piece in self.pieces[where]):
            self.hint(opened)
        for piece in self.pieces[where]:
            self.cp.add(piece.count <= most_of(piece.use, self.draft, where) * opened)

    def solve(self, goal: Expr, limit: float, *, downward: bool = False) -> str:
        """Maximise the goal within `limit` deterministic time units. The word is `optimal`, `feasible` or `unknown`.

        `downward` looks first for what reaches the bound. One worker and a fixed seed: same model, same answer.
        The solution of an earlier goal stays where it is worth more to this one: CP-SAT may end below its hint.
        """
        self.cp.maximize(goal)
        held = None if self.kept is None else self.kept.value(goal)
        word, solver = self._solve(self.cp, limit, downward=downward)
        if word in {"optimal", "feasible"}:
            self.value = round(solver.objective_value)
            if held is None or self.value >= held:
                self._keep(solver)
            else:
                self.value = held
        self.bound = floor(solver.best_objective_bound + TINY)
        return word

    def improve(self, limit: float, fixed: Iterable[Var], turn: int) -> float:
        """Look for a better solution of the last solve's goal that keeps the values of `fixed`.

        Another `turn` looks along another path. Returns the deterministic time spent.
        """
        copy = self.cp.clone()
        for var in fixed:
            copy.add(copy.get_int_var_from_proto_index(var.index) == self.solution[var.index])
        word, solver = self._solve(copy, limit, seed=turn + 1)
        if word in {"optimal", "feasible"} and round(solver.objective_value) > self.value:
            self.value = round(solver.objective_value)
            self._keep(solver)
        return float(solver.deterministic_time)

    def _solve(
        self, cp: cp_model.CpModel, limit: float, *, downward: bool = False, seed: int = 1
    ) -> tuple[str, cp_model.CpSolver]:
        cp.clear_hints()
        for var, value in self.hints.values():
            cp.add_hint(cp.get_int_var_from_proto_index(var.index), value)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed
        solver.parameters.max_deterministic_time = limit
        solver.parameters.linearization_level = 2
        solver.parameters.use_objective_lb_search = downward
        words = {cp_model.OPTIMAL: "optimal", cp_model.FEASIBLE: "feasible", cp_model.INFEASIBLE: "infeasible"}
        return words.get(solver.solve(cp), "unknown"), solver

    def _keep(self, solver: cp_model.CpSolver) -> None:
        self.kept = solver
        self.solution = {index: solver.value(var) for index, (var, _) in self.hints.items()}
        self.hints = {index: (var, self.solution[index]) for index, (var, _) in self.hints.items()}

    def of(self, var: Var) -> int:
        """The variable's value in the best solution so far."""
        return self.solution[var.index]


def total(terms: Sequence[Expr]) -> Expr:
    """The sum as an expression, also of nothing."""
    return cp_model.LinearExpr.sum(list(terms))


def most_of(use: CardUse, draft: Draft, where: Card) -> int:
    """Slices of this use for which the card has room."""
    free = draft.states[where[0]].cards[where[1]].free
    return min(
        free.slots // use.slots,
        free.memory_mib // use.memory_mib if use.memory_mib else free.slots,
        free.cores // use.cores if use.cores else free.slots,
    )


def _memory(use: CardUse) -> int:
    return use.memory_mib


def _cores(use: CardUse) -> int:
    return use.cores


def _slots(use: CardUse) -> int:
    return use.slots
