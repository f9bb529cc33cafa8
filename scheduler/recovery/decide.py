"""What a round of recovery has to do, as a pure function of nodes and policy."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kerf.values.device import Card
from kerf.values.health import Health, State
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.recovery import RecoveryMode
from scheduler.recovery.breaker import Pause, driver_upgrade, pause_of

NO_POOL = ""
"""The pool of nodes that no pool of the policy holds."""


@dataclass(frozen=True, slots=True)
class FailedCard:
    """A card whose tenants have to move."""

    node: str
    card: Card
    tenant: str = ""
    """Uid of the only pod that has to: that of a MIG instance with a fault. Empty: all of the card's."""


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be done now."""

    cordons: Mapping[str, tuple[str, ...]]
    """By node, the cards that Kerf itself keeps out of use, where the annotation says otherwise."""
    move: tuple[FailedCard, ...]
    """The oldest fault first."""
    broken: tuple[FailedCard, ...]
    """Cards under `recover` that need a remedy, in any order."""
    pauses: Mapping[str, Pause]
    """By pool."""
    paused_nodes: Mapping[str, str]
    """By node with cards whose tenants would move now, why they do not."""


def decide(nodes: Sequence[Node], policy: SchedulingPolicy, latched: Mapping[str, Pause], now: float) -> Round:
    """The round. `latched` are pauses that opened before and still hold."""
    pools: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        pool = policy.pool_of(node)
        pools[pool.name if pool else NO_POOL].append(node)
    pauses = {name: found for name, of in pools.items() if (found := _pause(name, of, policy, latched, now))}
    move: list[FailedCard] = []
    broken: list[FailedCard] = []
    stay: dict[str, str] = {}
    for name, of in pools.items():
        for node in of:
            if policy.recovery_on(node) is not RecoveryMode.RECOVER:
                continue
            failed = [FailedCard(node.name, card) for card in node.cards if card.health.state is State.CORDONED]
            moving = [one for one in failed if one.card.health.moves]
            moving += [one for card in node.cards for one in _instances(node.name, card)]
            why = _why_not(node, pauses.get(name))
            if moving and why:
                stay[node.name] = why
            elif not why:
                move += moving
                broken += failed
    move.sort(key=lambda one: (one.card.health.since, one.node, one.card.index))
    return Round(_cordons(nodes, policy), tuple(move), tuple(broken), pauses, stay)


def _instances(node: str, card: Card) -> list[FailedCard]:
    """A card's MIG instances with a fault, each as a card that has failed for its own pod alone."""
    hurt = card.mig.hurt if card.mig is not None and card.health.state is not State.CORDONED else ()
    healths = ((one.uid, Health(State.CORDONED, one.cause, one.since, one.code, moves=True)) for one in hurt)
    return [FailedCard(node, replace(card, health=health), uid) for uid, health in healths]


def _pause(
    name: str, nodes: Sequence[Node], policy: SchedulingPolicy, latched: Mapping[str, Pause], now: float
) -> Pause | None:
    found = pause_of(nodes, policy.recovery.breaker, now)
    before = latched.get(name)
    if found is None and before is not None and now < before.until:
        opened = before.until - policy.recovery.breaker.quiet_s
        return None if any(node.resumed >= opened for node in nodes) else before
    return found


def _why_not(node: Node, pause: Pause | None) -> str:
    if driver_upgrade(node):
        return "its driver is being upgraded"
    return pause.why if pause else ""


def _cordons(nodes: Sequence[Node], policy: SchedulingPolicy) -> dict[str, tuple[str, ...]]:
    """A card is cordoned when it fails, and no longer once it is healthy; one that is not read stays as it is."""
    found = {}
    for node in nodes:
        acts = policy.recovery_on(node) is not RecoveryMode.OBSERVE
        wanted: set[str] = set()
        if acts:
            known = {card.id: card.health for card in node.cards}
            wanted = {one for one, health in known.items() if health.state is State.CORDONED}
            wanted |= {one for one in node.fault_cordoned if one not in known or not known[one].takes_slices}
        if wanted != set(node.fault_cordoned):
            found[node.name] = tuple(sorted(wanted))
    return found
