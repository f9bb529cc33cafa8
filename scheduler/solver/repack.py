"""Which running pods to move, in which order, and what that frees.

A move deletes the pod and creates it again, so its new place must be free at that moment. Without a target, cards are
emptied one after the other, the least used first: for counts greedy is as good as the solver. For a named pod or gang
CP-SAT chooses the cheapest set of moves that makes room.
"""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np

from kerf.values.ask import PodAsk
from kerf.values.grant import Grant, card_uses
from scheduler.solver.check import broken_moves, broken_rules
from scheduler.solver.draft import FAR, Draft, Flags, Ints, sum_of_least
from scheduler.solver.grants import grants_of
from scheduler.solver.greedy import best_spot, fill
from scheduler.solver.model import Model, Spots, total
from scheduler.solver.narrow import candidates
from scheduler.solver.problem import (
    Assignment,
    Movable,
    Move,
    PodClass,
    Problem,
    Repack,
    gang_needs,
    pod_class,
    pod_classes,
)
from scheduler.solver.tiers import Tier, maximise

TARGET_NODES = 16
"""Nodes on which room is sought for each class of the target: those that lack least."""


def plan_repack(problem: Problem, target: PodAsk | None, max_moves: int) -> Repack:
    """At most `max_moves` moves that empty cards, or that make room for `target` and, where it has one, its gang.

    PodDisruptionBudgets are respected as they stand now. Only movable pods on the problem's nodes are moved.
    """
    names = {node.name for node in problem.nodes}
    here = sorted((m for m in problem.movable if m.holding.node in names), key=lambda m: (m.holding.pod, m.holding.uid))
    problem = replace(problem, movable=tuple(here))
    if target is None:
        found = _empty_cards(problem, max_moves)
    else:
        found = _make_room(replace(problem, asks=_target(problem, target)), max_moves)
    rules = broken_moves(problem, found, max_moves)
    return Repack(rejected=rules[0]) if rules else found


def _target(problem: Problem, target: PodAsk) -> tuple[PodAsk, ...]:
    """The pods that must be placed: the target, or as many members of its gang as must start together."""
    asks = problem.asks if target in problem.asks else (*problem.asks, target)
    for gang in gang_needs(replace(problem, asks=asks)):
        if gang.name == target.gang:
            others = [ask for ask in gang.members if ask != target]
            return (target, *others[: max(0, gang.least - 1)])
    return (target,)


def _empty_cards(problem: Problem, most: int) -> Repack:
    draft = Draft(problem.nodes, problem.quotas)
    tenants = _tenants(draft, problem.movable)
    before = draft.empty.copy()
    for n, g in zip(*before.nonzero(), strict=True):
        draft.set_usable((int(n), int(g)), usable=False)
    budgets = Counter(dict(problem.budgets))
    moves: list[Move] = []
    settled: set[str] = set()
    for where, pods in _least_used(draft, tenants):
        card = draft.states[where[0]].cards[where[1]].card.id
        left = Counter(budgets)
        left.subtract(name for each in pods for name in each.pdb)
        tied = card in settled or any(each.holding.uid in settled for each in pods)
        if tied or len(moves) + len(pods) > most or any(count < 0 for count in left.values()):
            continue
        drained = _drain(draft, problem, where, pods)
        settled.update(move.uid for move in drained)
        settled.update(piece.card for move in drained for held in move.grant.containers for piece in held.slices)
        moves += drained
        budgets = left if drained else budgets
    return Repack(tuple(moves), _freed(draft, before), (), _cost(problem, moves), "greedy")


def _tenants(draft: Draft, movable: tuple[Movable, ...]) -> dict[tuple[int, int], list[Movable]]:
    tenants: dict[tuple[int, int], list[Movable]] = defaultdict(list)
    for each in movable:
        for card_id in card_uses(each.holding.grant, each.holding.stages):
            if card_id in draft.where:
                tenants[draft.where[card_id]].append(each)
    return tenants


def _least_used(
    draft: Draft, tenants: dict[tuple[int, int], list[Movable]]
) -> list[tuple[tuple[int, int], list[Movable]]]:
    """Usable cards all of whose tenants may move, the cheapest to empty first."""

    def effort(where: tuple[int, int]) -> tuple[int, int, int, tuple[int, int]]:
        pods = tenants[where]
        used = draft.states[where[0]].cards[where[1]].used
        return sum(each.cost for each in pods), len(pods), used.memory_mib, where

    def clear(where: tuple[int, int]) -> bool:
        card = draft.states[where[0]].cards[where[1]]
        uses = [card_uses(each.holding.grant, each.holding.stages)[card.card.id] for each in tenants[where]]
        return bool(draft.usable[where]) and sum(use.slots for use in uses) == card.used.slots

    return [(where, tenants[where]) for where in sorted(filter(clear, tenants), key=effort)]


def _drain(draft: Draft, problem: Problem, where: tuple[int, int], pods: list[Movable]) -> list[Move]:
    """Moves that empty the card, the largest pod first; none, and unchanged books, where not all find a place."""
    draft.set_usable(where, usable=False)
    offered = dict(problem.offered)
    card = draft.states[where[0]].cards[where[1]].card.id
    done: list[tuple[Movable, int, Grant]] = []
    for each in sorted(pods, key=lambda each: -card_uses(each.holding.grant, each.holding.stages)[card].memory_mib):
        draft.leave(each)
        spot = best_spot(draft, pod_class((each.ask,), problem.policy, offered.get(each.ask.uid)), problem.policy)
        if spot is None:
            draft.stay(each)
            for back, n, grant in reversed(done):
                draft.give(n, back.ask, grant)
                draft.stay(back)
            draft.set_usable(where, usable=True)
            return []
        draft.take(spot[0], each.ask, spot[1])
        done.append((each, *spot))
    return [_move(draft, *spot) for spot in done]


def _move(draft: Draft, each: Movable, n: int, grant: Grant) -> Move:
    return Move(each.holding.pod, each.holding.uid, each.holding.node, draft.states[n].name, grant)


def _freed(draft: Draft, before: Flags) -> tuple[str, ...]:
    fresh = zip(*(draft.empty & ~before).nonzero(), strict=True)
    return tuple(draft.states[n].cards[g].card.id for n, g in fresh if g < len(draft.states[n].cards))


def _cost(problem: Problem, moves: list[Move]) -> int:
    moved = {move.uid for move in moves}
    return sum(each.cost for each in problem.movable if each.holding.uid in moved)


def _make_room(problem: Problem, most: int) -> Repack:
    if any(gang.hopeless for gang in gang_needs(problem)):
        return Repack(status="impossible")
    placed = fill(problem, Draft(problem.nodes, problem.quotas), ())
    if len(placed) == len(problem.asks):
        return Repack(placed=placed, status="fits")
    direct = _Room(problem, chained=False).make(most)
    if direct.status in {"optimal", "feasible"}:
        return direct
    chained = _Room(problem, chained=True).make(most)
    return replace(chained, status="feasible") if chained.placed else chained


class _Room:
    """The model of moves that make room: who leaves, where they go, where the target goes.

    Unless `chained`, pods that move use only what is free before anything has left: then every order works. Chained,
    they may take over each other's places, and an order has to be found.
    """

    def __init__(self, problem: Problem, *, chained: bool) -> None:
        self.problem = problem
        self.draft = Draft(problem.nodes, problem.quotas)
        self.vacant = Draft(problem.nodes, problem.quotas)
        for each in problem.movable:
            self.vacant.leave(each)
        self.before = Draft(problem.nodes, self.vacant.rooms.quotas)
        """Cards before anything has left. A pod that moves gives its quota back first, so quotas are as afterwards."""
        self.model = Model(self.before, problem.policy)
        self.exact = True
        self.target = [self._offer_target(klass) for klass in pod_classes(problem)]
        near = {self.draft.states[n].name for spots in self.target for n in spots.nodes}
        self.movers = tuple(each for each in problem.movable if chained or each.holding.node in near)
        self.gone = [self.model.add_departure(each) for each in self.movers]
        self.landing = self._offer_movers(chained)
        self.model.seal(problem.quotas, opening=False)

    def _offer_target(self, klass: PodClass) -> Spots:
        lack = _lack(self.draft, self.vacant, klass)
        nodes = [int(n) for n in np.lexsort((np.arange(len(lack)), lack)) if lack[n] < FAR]
        near = nodes[: max(TARGET_NODES, 2 * len(klass.members))]
        self.exact = self.exact and len(near) == len(nodes) and klass.exact
        return self.model.add_spots(klass, sorted(near), {}, self.vacant)

    def _offer_movers(self, chained: bool) -> list[tuple[list[int], Spots]]:
        asks = tuple(each.ask for each in self.movers)
        asked = replace(self.problem, nodes=(), asks=asks, movable=())
        classes = pod_classes(asked)
        books = self.vacant if chained else self.before
        offers, exact = candidates(books, classes, [{} for _ in classes])
        self.exact = self.exact and exact and all(klass.exact for klass in classes)
        position = {each.ask.uid: i for i, each in enumerate(self.movers)}
        return [
            (
                [position[ask.uid] for ask in klass.members],
                self.model.add_spots(klass, nodes, {}, self.vacant if chained else None),
            )
            for klass, nodes in zip(classes, offers, strict=True)
        ]

    def make(self, most: int) -> Repack:
        """The cheapest moves, then the fewest."""
        model, budgets = self.model, dict(self.problem.budgets)
        for spots in self.target:
            model.cp.add(spots.total == len(spots.klass.members))
        for who, spots in self.landing:
            model.cp.add(spots.total == total([self.gone[i] for i in who]))
        model.cp.add(total(self.gone) <= most)
        for name in sorted({name for each in self.movers for name in each.pdb}):
            covered = [gone for gone, each in zip(self.gone, self.movers, strict=True) if name in each.pdb]
            model.cp.add(total(covered) <= budgets.get(name, 0))
        costs = [gone * -each.cost for gone, each in zip(self.gone, self.movers, strict=True)]
        tiers = [
            Tier(total(costs), sum(each.cost for each in self.movers), 0),
            Tier(-1 * total(self.gone), len(self.movers), 0),
        ]
        word, _ = maximise(model, tiers, self.problem.policy.planner.deterministic_limit)
        if word == "infeasible":
            return Repack(status="impossible" if self.exact else "unknown")
        return self._answer(word) if word in {"optimal", "feasible"} else Repack()

    def _answer(self, word: str) -> Repack:
        before = self.draft.empty.copy()
        moves = self._in_order()
        if moves is None:
            return Repack()
        frees = _freed(self.draft, before)
        placed = tuple(
            Assignment(ask.uid, ask.key, self.draft.states[n].name, grant)
            for spots in self.target
            for ask, (n, grant) in zip(spots.klass.members, grants_of(spots, self.model), strict=True)
        )
        return Repack(tuple(moves), frees, placed, _cost(self.problem, moves), word if self.exact else "feasible")

    def _in_order(self) -> list[Move] | None:
        """The moves in an order in which each one fits, None where they wait for each other."""
        waiting = [
            (self.movers[i], *spot)
            for who, spots in self.landing
            for i, spot in zip(
                (i for i in who if self.model.of(self.gone[i])), grants_of(spots, self.model), strict=True
            )
        ]
        moves: list[Move] = []
        while waiting:
            ready = next((entry for entry in waiting if self._execute(*entry)), None)
            if ready is None:
                return None
            waiting.remove(ready)
            moves.append(_move(self.draft, *ready))
        return moves

    def _execute(self, each: Movable, n: int, grant: Grant) -> bool:
        self.draft.leave(each)
        ask = replace(each.ask, gang=None)
        alone = Problem((self.draft.states[n],), (ask,), self.problem.policy)
        fits = self.draft.rooms.allow(self.draft.drawn(ask, grant)) and not broken_rules(
            alone, (Assignment(ask.uid, ask.key, self.draft.states[n].name, grant),)
        )
        if fits:
            self.draft.take(n, each.ask, grant)
        else:
            self.draft.stay(each)
        return fits


def _lack(draft: Draft, vacant: Draft, klass: PodClass) -> Ints:
    """What each node lacks now of a pod of the class, in permille of cards; `FAR` where leaving pods do not help."""
    if not klass.sliced:
        return vacant.node_costs(klass)
    container = klass.ask.containers[0]
    wanted = draft.wanted(container)
    memory = (wanted[0] - draft.memory).clip(0) * 1_000 // draft.room[0]
    cores = (wanted[1] - draft.cores).clip(0) * 1_000 // draft.room[1]
    shared = (draft.alone(klass, container) & ~draft.empty) * 1_000
    per_card = np.where(vacant.fitting(klass, container), memory + cores + shared, FAR)
    lack = sum_of_least(per_card, min(container.cards, per_card.shape[1]))
    cpu = (klass.ask.cpu_milli - draft.cpu).clip(0) * 1_000 // max(1, klass.ask.cpu_milli)
    everywhere: Ints = np.where(vacant.node_costs(klass) < FAR, lack + cpu, FAR)
    return everywhere
