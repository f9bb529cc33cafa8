"""`kerf simulate WORKLOADS --clusters …`: would this fleet hold these workloads, at what cost, and which card next."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kerf.config.load import read_policy
from kerf.config.prices import read_prices
from kerf.values.fleet import ClusterSpec
from kerf.values.vendor import ResourceNames, Vendor
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import CLUSTER, parse_cluster
from kerf.wire.json import Json
from kerfctl.documents import read_objects
from kerfctl.errors import CliError
from kerfctl.fleet.together import Together, plan_together
from kerfctl.fleet.wanted import Wanted, wanted
from kerfctl.report import Sheet, say
from kerfctl.world import world_of_files
from scheduler.fleet.assign import why_not
from scheduler.fleet.manager import NAME
from scheduler.fleet.member import fleet_pods
from scheduler.fleet.neighbours import Neighbourhood
from scheduler.fleet.places import as_planned
from scheduler.fleet.shapes import Shapes, Terms, Want, shapes
from scheduler.fleet.view import View
from scheduler.solver.fleet.greedy import plan_cheapest, plan_evenly
from scheduler.solver.fleet.problem import MICRO, FleetPlan, FleetProblem, NodeSpace, Site
from scheduler.solver.fleet.solve import Effort, plan_fleet

EFFORT = Effort(limit=2.0, seconds=60.0)
"""Somebody waits for a plan that is to be as good as it can be."""


@dataclass(frozen=True, slots=True)
class Next:
    """What one more node would change: replicas with a place, and what an hour of the plan costs less, per card."""

    cluster: str
    model: str
    cards: int
    placed: int
    saved: float
    price: float
    kind: str = ""
    """The name of the kind of cards in the problem."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The plan, what it is measured against, and the next node, the best first."""

    plans: tuple[tuple[str, FleetPlan], ...]
    made: Shapes
    further: tuple[Next, ...]
    currency: str
    why: Mapping[str, tuple[str, ...]]
    """Of each workload with replicas that have no place, a sentence for each cluster."""
    asked: Wanted
    names: tuple[ResourceNames, ...]
    """The words by which pods ask for cards."""

    @property
    def otherwise(self) -> dict[str, str]:
        """Why pods may get other cards than those of the plan, by workload."""
        found = {one.key: as_planned(one, self.names) for one in self.asked.workloads}
        return {name: str(each["message"]) for name, each in found.items() if each["status"] != "True"}

    @property
    def whole(self) -> bool:
        """Whether every object was read, and every replica has a place."""
        return not self.asked.left_out and not self.plans[0][1].unplaced


def what_if(
    files: Sequence[str], clusters: Sequence[str], policy: str | None, prices: str | None, vendors: tuple[Vendor, ...]
) -> WhatIf:
    """Plan the workloads of the files over clusters that stand in files. Raises CliError."""
    listed = read_prices(prices)
    terms = Terms(tuple(vendor.words for vendor in vendors), read_policy(policy), listed)
    items = [pair for file in files for pair in read_objects(file)]
    asked = wanted(items, terms)
    if not asked.workloads:
        kinds = "FleetWorkloads, Pods, ResourceClaims, or what makes pods, such as Deployments and JobSets"
        raise CliError(f"{', '.join(files)}: no workload that asks for cards; give {kinds}")
    views = tuple(_views(clusters, policy, vendors, asked.left_out))
    made = shapes(views, [Want(each, each.replicas) for each in asked.workloads], terms, own_stays=False)
    found = plan_together(made.problem, asked.together, partial(plan_fleet, effort=EFFORT))
    best = found.plan
    plans = (
        ("plan", best),
        ("cheapest first", plan_cheapest(found.closed)),
        ("even spread", plan_evenly(found.closed)),
    )
    why = {
        one.key: tuple(why_not(one, view, made) for view in views)
        for one in asked.workloads
        if one.key in dict(best.unplaced)
    }
    return WhatIf(plans, made, _further(made, found), listed.currency, why, asked, terms.names)


def _views(
    paths: Sequence[str], policy: str | None, vendors: tuple[Vendor, ...], left_out: list[str]
) -> Iterator[View]:
    """A view for each file, or for each file and folder in a folder; a Cluster among its objects says more of it.

    What of a cluster was not read is added to `left_out`.
    """
    entries = [entry for path in paths for entry in _entries(Path(path))]
    if not entries:
        raise CliError(f"{', '.join(paths)}: no file; give a file for each cluster, or a folder of them")
    seen: dict[str, Path] = {}
    for entry in entries:
        items = list(read_objects(str(entry)))
        spec, said = _spec_of(entry, items)
        if spec.name in seen:
            fix = "give each file, or the Cluster in it, its own name"
            raise CliError(f"{entry}: a second cluster called {spec.name}, beside {seen[spec.name]}: {fix}")
        seen[spec.name] = entry
        if said and not any(item.get("kind") == "Node" for _, item in items):
            yield View(spec)  # it has joined, and has no nodes yet
            continue
        world = world_of_files([str(entry)], policy, vendors)
        left_out += [f"{spec.name}: {line}" for line in world.left_out]
        store = world.seen().store
        pods = fleet_pods([dict(pod) for pod in world.pods], NAME, spec.name, store)
        beside = Neighbourhood()
        beside.replace(world.pods)
        nodes, states = tuple(store.desk.nodes()), store.desk.states()
        yield View(spec, nodes=nodes, states=states, pods=tuple(pods), neighbours=beside.seen())


def _spec_of(entry: Path, items: Sequence[tuple[str, Json]]) -> tuple[ClusterSpec, bool]:
    """What the Cluster among a file's objects says, and whether there is one; the manager's snapshot has those of all.

    Without one the file's name is the cluster's.
    """
    name = entry.name if entry.is_dir() else entry.stem
    found = []
    for path, item in items:
        if item.get("kind") == CLUSTER and str(item.get("apiVersion", API_VERSION)).partition("/")[0] == "kerf.dev":
            try:
                found.append(parse_cluster(item))
            except WireError as error:
                raise CliError(f"{path}: {error}") from error
    if len(found) > 1:
        found = [spec for spec in found if spec.name == name]
        if len(found) > 1:
            raise CliError(f"{entry}: {len(found)} Clusters are called {name}: leave all but one out")
        if not found:
            raise CliError(f"{entry}: several Clusters, and none is called {name}: name the file as the cluster is")
    return (found[0], True) if found else (ClusterSpec(name), False)


def _entries(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(e for e in path.iterdir() if e.is_dir() or e.suffix in {".yaml", ".yml", ".json"})


def _further(made: Shapes, planned: Together) -> tuple[Next, ...]:
    """For each model and cluster that has it, the plan with one more node of it."""
    found, best = [], planned.plan
    for site in made.problem.sites:
        for name in {kind: None for node, _ in site.nodes for kind in (node.kind,)}:
            node = max((n for n, _ in site.nodes if n.kind == name), key=lambda n: (len(n.cards), n.cpu_milli))
            empty = made.problem.kind(name).empty
            fresh = NodeSpace(name, (empty,) * len(node.cards), max(node.cpu_milli, 1), max(node.memory_mib, 1))
            more = plan_together(_with_node(planned.problem, site, fresh), planned.without, plan_fleet).plan
            count = len(node.cards)
            placed = sum(n for _, n in best.unplaced) - sum(n for _, n in more.unplaced)
            saved = (best.cost - more.cost) / MICRO / count
            found.append(Next(site.name, made.model(name), count, placed, saved, site.money_of(name) / MICRO, name))
    return tuple(sorted(found, key=lambda n: (-n.placed / n.cards, -n.saved, n.price, n.model, n.cluster)))


def _with_node(problem: FleetProblem, site: Site, node: NodeSpace) -> FleetProblem:
    counts = dict(site.nodes)
    counts[node] = counts.get(node, 0) + 1
    fresh = replace(site, nodes=tuple(sorted(counts.items())))
    return replace(problem, sites=tuple(fresh if each is site else each for each in problem.sites))


def json_of(found: WhatIf) -> dict[str, Any]:
    """Everything as one object; money is an hour's."""
    pods = {demand.name: demand.pods for demand in found.made.problem.demands}
    return {
        "currency": found.currency,
        "plans": [
            {
                "name": name,
                "costPerHour": round(plan.cost / MICRO, 4),
                "gap": round(plan.gap, 6) if name == "plan" else None,
                "strandedCards": round(plan.stranded, 3),
                "unplaced": dict(plan.unplaced),
                "assignments": [
                    {"workload": p.demand, "cluster": p.site, **_cards_of(found.made, p.kind), "replicas": p.units,
                     "pods": p.units * pods[p.demand]}
                    for p in plan.parts
                ],
                "models": models_of(found.made, plan),
            }
            for name, plan in found.plans
        ],
        "next": [
            {
                "cluster": n.cluster, **_cards_of(found.made, n.kind), "cards": n.cards, "replicasPlaced": n.placed,
                "savedPerCardAndHour": round(n.saved, 4), "pricePerCardAndHour": round(n.price, 4),
            }
            for n in found.further
        ],
        "withoutPrice": list(found.made.unpriced),
        "leftOut": list(found.asked.left_out),
        "withoutCards": list(found.asked.without_cards),
        "notAsPlanned": found.otherwise,
        "whyNot": {name: list(said) for name, said in found.why.items()},
    }  # fmt: skip


def _cards_of(made: Shapes, kind: str) -> dict[str, str]:
    card = made.cards[kind]
    return {"model": card.model, "mode": card.mode.word, "allocator": card.allocator.value}


def models_of(made: Shapes, plan: FleetPlan) -> dict[str, dict[str, float]]:
    """Cards by model: all with free space, opened, used and stranded, in cards."""
    found: dict[str, dict[str, float]] = {}
    for use in plan.uses:
        row = found.setdefault(made.model(use.kind), {"cards": 0, "opened": 0, "used": 0.0, "stranded": 0.0})
        for key, value in (
            ("cards", use.cards),
            ("opened", use.opened),
            ("used", use.used),
            ("stranded", use.stranded),
        ):
            row[key] = round(row[key] + value, 3)
    return found


def print_what_if(found: WhatIf, as_json: bool) -> int:
    """Print; exit status 1 where the plan leaves a replica without a place or an object was left out."""
    best = found.plans[0][1]
    if as_json:
        print(json.dumps(json_of(found), indent=2))
        return int(not found.whole)
    pods = {demand.name: demand.pods for demand in found.made.problem.demands}
    parts = [(p.demand, p.site, found.made.label(p.kind), _of(p.units, pods[p.demand])) for p in best.parts]
    _table("Plan", ("workload", "cluster", "model", "replicas"), parts)
    rows: list[tuple[str, ...]] = []
    for name, plan in found.plans:
        short = sum(n for _, n in plan.unplaced)
        gap = f"{100 * plan.gap:.2f} %" if plan is best else "-"
        rows.append((name, f"{plan.cost / MICRO:,.2f}", gap, f"{plan.stranded:,.1f}", str(short)))
    _table(
        f"Side by side ({found.currency} an hour)", ("policy", "cost", "gap", "cards stranded", "without a place"), rows
    )
    rows = [
        (model, name, f"{row['cards']:.0f}", f"{row['opened']:.0f}", f"{row['used']:.1f}", f"{row['stranded']:.1f}")
        for name, plan in found.plans
        for model, row in sorted(models_of(found.made, plan).items())
    ]
    _table(
        "Cards", ("model", "policy", "with room", "opened", "used", "stranded"), sorted(rows, key=lambda row: row[0])
    )
    rows = [
        (found.made.label(n.kind), n.cluster, str(n.cards), f"{n.placed:+d}", f"{n.saved:,.3f}", f"{n.price:,.3f}")
        for n in found.further
    ]
    heads = ("model", "cluster", "cards of a node", "replicas placed", "saved a card", "price a card")
    _table("One more node", heads, rows)
    for name, n in best.unplaced:
        say(f"✗ {name}: {n} replicas have no place: {'; '.join(found.why[name])}")
    say(*(f"~ {name}: {said}" for name, said in found.otherwise.items()))
    if found.made.unpriced:
        say(_without_price(found.made))
    if found.asked.without_cards:
        say(f"not planned, they ask for no card: {', '.join(found.asked.without_cards)}")
    say(*(f"! {line}" for line in found.asked.left_out))
    return int(not found.whole)


def _without_price(made: Shapes) -> str:
    priced = {card.model for card in made.cards.values()} - set(made.unpriced)
    counted = "counted as the dearest card" if priced else "each card counts as 1, so the plan opens the fewest"
    return f"no price for {', '.join(made.unpriced)}: {counted}; --prices FILE gives prices"


def _of(units: int, pods: int) -> str:
    return str(units) if pods == 1 else f"{units} of {pods} pods"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    sheet = Sheet(title, heads)
    for row in rows:
        sheet.add(*row)
    sheet.print()
