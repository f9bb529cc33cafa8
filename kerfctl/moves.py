"""A world as a repacking problem: which pods may be moved, and what PodDisruptionBudgets and quotas allow."""

from kerf.values.ask import PodAsk
from kerf.values.policy import Defaults
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at
from kerf.wire.objects import CardsOf, cards_of, parse_holding
from kerf.wire.resources import parse_pod
from kerfctl.errors import CliError
from kerfctl.world import World
from scheduler.core.budgets import covers, disruptions_allowed
from scheduler.core.eligible import eligible_nodes
from scheduler.solver.check import broken_moves
from scheduler.solver.problem import Movable, Move, Problem, Repack
from scheduler.solver.repack import plan_repack
from scheduler.state.store import Store

PINNED = "kerf.dev/no-repack"
"""A pod with this annotation or label, whatever its value, is never moved."""


def plan_moves(world: World, target: str | None, most: int) -> Repack:
    """At most so many moves that empty cards, or that make room for the waiting pod `namespace/name`."""
    store = world.seen().store
    return plan_repack(problem_of(world, store), _target(store, target), most)


def problem_of(world: World, store: Store) -> Problem:
    """What may be moved, and where to."""
    known, defaults = store.desk.nodes(), store.desk.policy.defaults
    cards = cards_of(known)
    return store.planning.problem(
        (w.ask for w in store.desk.waiting() if not w.problem and not w.gates),
        movable=tuple(m for pod in world.pods if (m := movable(pod, world, defaults, cards)) is not None),
        offered=tuple(
            (pod["metadata"].get("uid", ""), frozenset(eligible_nodes(at(pod, "spec"), known))) for pod in world.pods
        ),
        budgets=tuple(sorted((_key(budget), disruptions_allowed(budget)) for budget in world.budgets)),
    )


def why_not_now(world: World, move: Move) -> str:
    """Which rule a planned move would break in this world, quotas and budgets included; empty if it still holds."""
    problem = problem_of(world, world.seen().store)
    if not any((each.holding.uid, each.holding.node) == (move.uid, move.from_node) for each in problem.movable):
        return f"it is no longer on {move.from_node}, or may not be moved any more"
    return next(iter(broken_moves(problem, Repack(moves=(move,)), 1)), "")


def movable(pod: Json, world: World, defaults: Defaults, cards: CardsOf) -> Movable | None:
    """A running pod that its controller creates again after an eviction; None for a bare, ending or pinned one."""
    meta = pod["metadata"]
    owners = items_at(meta, "ownerReferences")
    owned = any(owner.get("controller") for owner in owners)
    daemon = any(owner.get("kind") == "DaemonSet" for owner in owners)
    pinned = PINNED in at(meta, "annotations") or PINNED in at(meta, "labels")
    if not owned or daemon or pinned or meta.get("deletionTimestamp"):
        return None
    try:
        holding = parse_holding(pod, world.vendors, cards)
        ask = parse_pod(pod, world.names, defaults)
    except WireError:
        return None
    if holding is None:
        return None
    covering = tuple(sorted(_key(budget) for budget in world.budgets if covers(budget, meta)))
    return Movable(holding, ask, covering)


def _target(store: Store, name: str | None) -> PodAsk | None:
    if name is None:
        return None
    key = name if "/" in name else f"default/{name}"
    found = next((w for w in store.desk.waiting() if w.ask.key == key), None)
    if found is None:
        raise CliError(f"pod {key} does not wait for cards")
    if found.problem:
        raise CliError(f"pod {key}: {found.problem}")
    return found.ask


def _key(budget: Json) -> str:
    meta = budget["metadata"]
    return f"{meta.get('namespace', 'default')}/{meta.get('name', '')}"
