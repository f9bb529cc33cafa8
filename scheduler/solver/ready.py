"""Ready-made grants: places of pods whose slices no count per card describes."""

from dataclasses import replace
from functools import reduce
from operator import or_

from kerf.values.ask import PodAsk
from kerf.values.device import Card
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from scheduler.solver.draft import Draft, places_for
from scheduler.solver.greedy import place_on
from scheduler.solver.problem import PodClass

READY_MADE = 8
"""Grants tried per node for a class that is not sliced: one starting on each card of a usual machine."""


def ready_grants(draft: Draft, n: int, klass: PodClass, policy: SchedulingPolicy) -> list[Grant]:
    """Ways to place a pod of the class on node `n`, each without the first card of those before it."""
    held = draft.states[n]
    grants: list[Grant] = []
    cards = held.cards
    while len(grants) < READY_MADE:
        draft.states[n] = replace(held, cards=cards)
        grant = place_on(draft, n, klass.ask, policy)
        if grant is None:
            break
        grants.append(grant)
        if not grant:
            break
        blocked = next(piece.card for container in grant.containers for piece in container.slices)
        cards = tuple(replace(state, usable=state.usable and state.card.id != blocked) for state in cards)
    draft.states[n] = held
    return grants


def blocked_by(ask: PodAsk, grant: Grant, card: Card) -> int:
    """The counters of a card that have to be zero when a pod with this grant comes."""
    blocked = 0
    for container in ask.containers:
        held = {piece.place for piece in grant.of(container.name) if piece.card == card.id}
        blocked |= reduce(or_, (place.blocked for place in places_for(container, card) if place.adds in held), 0)
    return blocked
