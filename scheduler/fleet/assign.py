"""Which cluster has how many replicas of which workload: what stays, what is placed, what moves. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.fleet import Assigned, FleetSettings, FleetWorkload, Phase
from kerf.values.grant import Slice
from kerf.wire.errors import WireError
from scheduler.fleet.places import Planned, places_of
from scheduler.fleet.shapes import Shapes, Terms, Want, accepted, allows, kind_of, read_template, shapes
from scheduler.fleet.view import View
from scheduler.solver.fleet.books import Books
from scheduler.solver.fleet.problem import FleetPlan, Piece
from scheduler.solver.fleet.solve import Effort, plan_fleet

HANDED_OVER = 100.0
"""Percent of its price that it costs to move a replica which was handed over and is not bound yet."""
NO_CLUSTER = "no cluster has joined: kerf cluster add"
MOST_NAMED = 3
EFFORT = Effort(limit=1.0, seconds=10.0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a workload gets. `short` counts replicas without a place; `why` has a sentence for each cluster then."""

    workload: FleetWorkload
    parts: tuple[Assigned, ...] = ()
    ready: int = 0
    short: int = 0
    why: tuple[str, ...] = ()
    problem: str = ""
    """Why the workload cannot be read."""
    places: Planned = field(default_factory=dict)
    """Where the plan has those replicas that were placed in this round."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A part of a workload that counts: how many of its replicas are bound, ready, and should leave."""

    part: Assigned
    bound: int
    ready: int
    leaving: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Cluster, model and epoch."""
        return self.part.cluster, self.part.model, self.part.epoch

    @property
    def stays(self) -> int:
        """Bound replicas that stay."""
        return self.bound - self.leaving


def standing(one: FleetWorkload, parts: Sequence[Assigned], views: Mapping[str, View]) -> tuple[Standing, ...]:
    """The parts whose cluster's epoch is still the one under which they were placed; others are lost."""
    found = []
    for part in parts:
        view = views.get(part.cluster)
        if view is None or not view.record.usable or part.epoch != view.record.epoch:
            continue
        _, bound, ready = view.units(one.key, one.group_size).get((part.model, part.epoch), (0, 0, 0))
        if not view.takes_work and view.record.phase is not Phase.RESTING:
            bound = part.replicas  # until it is lost, a cluster that is not fresh keeps what was handed to it
        bound, ready = min(bound, part.replicas), min(ready, part.replicas)
        away = view.spec.draining or not allows(one, view) or not takes(one, part.model)
        found.append(Standing(part, bound, ready, bound if away else min(bound, part.leaving)))
    return tuple(found)


def takes(one: FleetWorkload, model: str) -> bool:
    """Whether a workload still accepts a model of card."""
    return not one.accepts or accepted(one, model) is not None


def assign(
    workloads: Sequence[FleetWorkload],
    before: Mapping[str, Sequence[Assigned]],
    views: Sequence[View],
    terms: Terms,
    avoid: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Decision, ...]:
    """Decide for all workloads at once. What is bound stays; what is not yet has its place, or another, in one plan."""
    by_name = {view.name: view for view in views}
    stands = {one.key: standing(one, before.get(one.key, ()), by_name) for one in workloads}
    readable: list[FleetWorkload] = []
    problems: dict[str, str] = {}
    for one in workloads:
        try:
            read_template(one, None, terms)
            for accept in one.accepts:
                read_template(one, accept, terms)
            readable.append(one)
        except WireError as error:
            problems[one.key] = str(error)
    wants = [_want(one, stands[one.key], (avoid or {}).get(one.key, frozenset())) for one in readable]
    asked = [want for want in wants if want.units > 0]
    made = shapes([_for_new_work(view) for view in views], asked, terms) if asked else None
    plan = plan_fleet(made.problem, EFFORT) if made else FleetPlan(())
    placed, places = _by_workload(plan, made, by_name), places_of(plan, made)
    decisions = []
    for one in workloads:
        if one.key in problems:
            kept = tuple(each.part for each in stands[one.key])
            decisions.append(Decision(one, kept, _ready(stands[one.key]), problem=problems[one.key]))
        else:
            decided = _decide(one, stands[one.key], placed[one.key], views, made)
            decisions.append(replace(decided, places=places.get(one.key, {})))
    return tuple(decisions)


def _for_new_work(view: View) -> View:
    """New replicas go where the cluster is fresh, and neither cordoned nor draining."""
    if view.spec.cordoned or view.spec.draining:
        return replace(view, takes_work=False)
    return view


def _want(one: FleetWorkload, stands: Sequence[Standing], avoid: frozenset[str]) -> Want:
    """Replicas without a bound pod, and of those that should leave as many as may move at a time."""
    staying = sum(each.stays for each in stands)
    leaving = sum(each.leaving for each in stands)
    missing = max(0, one.replicas - staying - leaving)
    moving = min(leaving, one.max_moves, max(0, one.replicas - staying))
    fixed = Counter[str]()
    waiting = []
    for each in stands:
        fixed[each.part.cluster] += each.stays
        unbound = each.part.replicas - each.bound
        if unbound and each.part.cluster not in avoid and each.leaving < max(1, each.bound):
            waiting.append((each.part.cluster, each.part.model, unbound))
    return Want(one, missing + moving, tuple(waiting), tuple(sorted(fixed.items())), avoid, HANDED_OVER)


def _by_workload(
    plan: FleetPlan, made: Shapes | None, views: Mapping[str, View]
) -> dict[str, Counter[tuple[str, str, int]]]:
    found: dict[str, Counter[tuple[str, str, int]]] = defaultdict(Counter)
    for part in plan.parts:
        if made is not None:
            found[part.demand][part.site, made.model(part.kind), views[part.site].record.epoch] += part.units
    return found


def _decide(
    one: FleetWorkload,
    stands: Sequence[Standing],
    placed: Counter[tuple[str, str, int]],
    views: Sequence[View],
    made: Shapes | None,
) -> Decision:
    units = Counter(placed)
    leaving = Counter[tuple[str, str, int]]()
    for each in stands:
        back = min(placed[each.key], each.leaving)  # the best place for what should leave is where it is
        units[each.key] += each.bound - back
        leaving[each.key] = each.leaving - back
    _trim(one, units, leaving, {each.key: each.ready for each in stands})
    parts = tuple(sorted(Assigned(*key, n, min(n, leaving[key])) for key, n in units.items() if n > 0))
    short = max(0, one.replicas - sum(part.replicas for part in parts))
    why = tuple(why_not(one, view, made) for view in views) if short and made else ()
    why = why or ((NO_CLUSTER,) if short else ())
    return Decision(one, parts, _ready(stands), short, why)


def _trim(
    one: FleetWorkload,
    units: Counter[tuple[str, str, int]],
    leaving: Counter[tuple[str, str, int]],
    ready: dict[tuple[str, str, int], int],
) -> None:
    """Take away replicas beyond what is wanted: those that should leave, then unready ones, then from the largest part.

    A ready replica goes only while as many as are wanted stay ready.
    """
    while sum(units.values()) > one.replicas:
        spare = sum(min(units[key], n) for key, n in ready.items()) > one.replicas
        away = [key for key in sorted(units) if leaving[key] and (spare or ready.get(key, 0) < units[key])]
        beyond = sum(units.values()) - sum(leaving.values()) > one.replicas
        rest = [
            key for key in sorted(units, key=lambda key: (-units[key], key)) if beyond and units[key] > leaving[key]
        ]
        unready = [key for key in rest if units[key] > ready.get(key, 0)]
        able = away or unready or (rest if spare else [])
        if not able:
            return
        key = able[0]
        units[key] -= 1
        leaving[key] = max(0, leaving[key] - 1) if away else leaving[key]
        ready[key] = min(ready.get(key, 0), units[key])


def _ready(stands: Sequence[Standing]) -> int:
    return sum(each.ready for each in stands)


def why_not(one: FleetWorkload, view: View, made: Shapes) -> str:
    """What one cluster says of a workload of which something has no place."""
    phase = view.record.phase
    if not allows(one, view):
        return f"{view.name}: the workload's clusters, regions, supply and queue leave it out"
    if phase is not Phase.LIVE:
        return f"{view.name}: {phase.value}, it takes no new work"
    if view.spec.draining or view.spec.cordoned:
        return f"{view.name}: {'draining' if view.spec.draining else 'cordoned'}"
    if not view.takes_work:
        return f"{view.name}: what was seen of it is stale"
    demand = next((each for each in made.problem.demands if each.name == one.key), None)
    if demand is None or not demand.fits or (one.devices and not _of_hands(one, view)):
        return f"{view.name}: no card that it accepts; it has {_has(one, view)}"
    if not demand.allows(view.name):
        return f"{view.name}: its own scheduler did not place earlier replicas; it is asked again later"
    alone = replace(demand, most=None, survive=0, sites=frozenset((view.name,)))
    books = Books(replace(made.problem, demands=(alone,)))
    fit = sum(books.add(alone, view.name, each, alone.units) for each in alone.fits)
    empty = sum(
        n * node.cards.count(made.problem.kind(node.kind).empty)
        for node, n in made.problem.site(view.name).nodes
        if alone.fit(node.kind)
    )
    one_a_node = ", where a node takes one pod" if demand.name in demand.apart else ""
    closed = sum(n for node, n in made.problem.site(view.name).nodes if demand.name in node.apart)
    beside = f"; pods there keep it off {closed} of its nodes" if closed else ""
    others = [name for name in demand.apart if name != demand.name]
    more = f" and {len(others) - MOST_NAMED} others" if len(others) > MOST_NAMED else ""
    beside += f"; no node takes it beside {', '.join(others[:MOST_NAMED])}{more}" if others else ""
    most = f"; mostPerCluster lets it have {demand.most}" if demand.most is not None else ""
    fits = f"{fit} of {alone.units} replicas fit by themselves{one_a_node}{beside}{most}"
    return f"{view.name}: {fits}; {empty} of its cards are empty"


def _of_hands(one: FleetWorkload, view: View) -> list[str]:
    """The models of a cluster's cards that are given out in the way in which a workload asks."""
    hands = Allocator.DRA if one.devices else Allocator.EXTENDER
    return sorted({each.card.model for state in view.states for each in state.cards if each.card.allocator is hands})


def _has(one: FleetWorkload, view: View) -> str:
    if one.devices and not view.knows_claims:
        return "no readable claims: run kerf cluster add for it again, which renews the rights"
    return ", ".join(_of_hands(one, view)) or ("no cards that are given to claims" if one.devices else "no cards")


def rebalance(
    decisions: Sequence[Decision],
    views: Sequence[View],
    terms: Terms,
    settings: FleetSettings,
) -> tuple[Decision, ...]:
    """Move a few replicas where the plan for everything would be cheaper by more than the threshold.

    Only in a calm fleet: nothing waits, nothing leaves, every cluster answers.
    """
    whole = all(d.ready >= d.workload.replicas and not d.short and not d.problem for d in decisions)
    calm = all(view.takes_work and not view.spec.draining for view in views)
    if not whole or not calm or settings.move_saving_percent >= 100 or not decisions:
        return tuple(decisions)
    wants = [
        Want(d.workload, d.workload.replicas, tuple((p.cluster, p.model, p.replicas) for p in d.parts))
        for d in decisions
    ]
    made = shapes([_for_new_work(view) for view in views], wants, terms, own_stays=False)
    plan = plan_fleet(made.problem, EFFORT)
    now = cost_now(views, made)
    if plan.unplaced or plan.cost >= now or plan.cost > now * (1 - settings.move_saving_percent / 100):
        return tuple(decisions)
    found = []
    for decision in decisions:
        goal = Counter[tuple[str, str]]()
        for part in plan.parts:
            if part.demand == decision.workload.key:
                goal[part.site, made.model(part.kind)] += part.units
        left, parts = decision.workload.max_moves, []
        for each in decision.parts:
            away = min(left, max(0, each.replicas - goal[each.cluster, each.model]))
            left -= away
            parts.append(replace(each, leaving=max(each.leaving, away)))
        found.append(replace(decision, parts=tuple(parts)))
    return tuple(found)


def _share(slices: Sequence[Slice], card: Card) -> float:
    """The part of a shared card that slices pay for in a plan."""
    kind = kind_of(card, card.model)
    return min(1.0, sum(Piece(each.memory_mib, max(1, each.cores)).share(kind) for each in slices))


def cost_now(views: Sequence[View], made: Shapes) -> float:
    """What the fleet's own pods cost an hour now, in millionths: cards that are theirs alone, and parts of others.

    At the prices of the plan, so that a model without a price counts alike in both.
    """
    total = 0.0
    for view in views:
        own: dict[str, list[Slice]] = defaultdict(list)
        for piece in (piece for pod in view.pods for piece in pod.slices):
            own[piece.card].append(piece)
        prices = made.prices_in(view.name)
        for state in view.states:
            for each in state.cards:
                slices = own.get(each.card.id, ())
                part = 1.0 if slices and len(slices) >= each.used.slots else _share(slices, each.card)
                total += part * prices.get(each.card.model, 0)
    return total
