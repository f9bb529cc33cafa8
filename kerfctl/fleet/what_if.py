"""`kerf simulate WORKLOADS --clusters …`: would this fleet hold these workloads, at what cost, and which card next."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerf.config.load import read_policy
from kerf.config.prices import read_prices
from kerf.values.fleet import ClusterSpec, FleetWorkload
from kerf.values.vendor import Vendor
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import CLUSTER, WORKLOAD, parse_cluster, parse_workload
from kerf.wire.json import Json, at
from kerfctl.documents import read_objects
from kerfctl.errors import CliError
from kerfctl.fleet.filed_claims import FiledClaims
from kerfctl.report import Sheet, say
from kerfctl.workloads.kinds import DAEMON_SET, MAKERS, group_kind, is_read
from kerfctl.workloads.replica import named
from kerfctl.world import world_of_files
from scheduler.fleet.manager import NAME
from scheduler.fleet.member import fleet_pods
from scheduler.fleet.shapes import Shapes, Terms, Want, shapes
from scheduler.fleet.view import View
from scheduler.solver.fleet.greedy import plan_cheapest, plan_evenly
from scheduler.solver.fleet.problem import MICRO, FleetPlan, FleetProblem, NodeSpace, Site
from scheduler.solver.fleet.solve import Effort, plan_fleet

EFFORT = Effort(limit=2.0, seconds=60.0)
"""Somebody waits for a plan that is to be as good as it can be."""
_GROUPS = {"Deployment": "replicas", "StatefulSet": "replicas", "ReplicaSet": "replicas", "Job": "parallelism"}


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
    left_out: tuple[str, ...] = ()
    """Objects that make pods, or that kerf does not know, of which the plan has none."""

    @property
    def whole(self) -> bool:
        """Whether every object was read, and every replica has a place."""
        return not self.left_out and not self.plans[0][1].unplaced


def what_if(
    files: Sequence[str], clusters: Sequence[str], policy: str | None, prices: str | None, vendors: tuple[Vendor, ...]
) -> WhatIf:
    """Plan the workloads of the files over clusters that stand in files. Raises CliError."""
    listed = read_prices(prices)
    terms = Terms(tuple(vendor.words for vendor in vendors), read_policy(policy), listed)
    items = [pair for file in files for pair in read_objects(file)]
    workloads = tuple(_workloads(items))
    if not workloads:
        raise CliError(f"{', '.join(files)}: no workload; give FleetWorkloads, Deployments, LeaderWorkerSets or Jobs")
    views = tuple(_views(clusters, policy, vendors))
    try:
        made = shapes(views, [Want(each, each.replicas) for each in workloads], terms, own_stays=False)
    except WireError as error:
        raise CliError(str(error)) from error
    best = plan_fleet(made.problem, EFFORT)
    plans = (
        ("plan", best),
        ("cheapest first", plan_cheapest(made.problem)),
        ("even spread", plan_evenly(made.problem)),
    )
    return WhatIf(plans, made, _further(made, best), listed.currency, tuple(_left_out(items)))


def _workloads(items: Sequence[tuple[str, Json]]) -> Iterator[FleetWorkload]:
    claims, seen = FiledClaims.of(items), set[str]()
    for path, item in items:
        document = _as_workload(item)
        if document is None:
            continue
        kind = group_kind(item)[1]
        try:
            one = parse_workload(document)
            if kind != WORKLOAD:
                one = replace(one, name=named(item))
            one = claims.asked_by(one, kind)
        except WireError as error:
            raise CliError(f"{path}: {kind} {named(item)}: {error}") from error
        yield _own_name(one, kind, seen)
    for one in claims.alone(item for _, item in items)[0]:
        yield _own_name(one, "ResourceClaim", seen)


def _own_name(one: FleetWorkload, kind: str, seen: set[str]) -> FleetWorkload:
    """The workload under a name that no other has: in Kubernetes each kind has names of its own."""
    name, number = one.name, 1
    while (key := f"{one.namespace}/{name}") in seen:
        number += 1
        name = f"{one.name} ({kind})" if number == 2 else f"{one.name} ({kind} {number})"
    seen.add(key)
    return replace(one, name=name)


def _left_out(items: Sequence[tuple[str, Json]]) -> Iterator[str]:
    for _, item in items:
        key = group_kind(item)
        counts = key in MAKERS or key == DAEMON_SET or not is_read(key)
        if counts and key[1] != CLUSTER and _as_workload(item) is None:
            yield f"not read: {key[1]} {named(item)}"
    yield from FiledClaims.of(items).alone(item for _, item in items)[1]


def _as_workload(item: Json) -> Json | None:
    """A FleetWorkload, or an ordinary workload as one; None for what is none."""
    kind, spec = str(item.get("kind")), at(item, "spec")
    if kind == WORKLOAD:
        return item
    top = {"apiVersion": API_VERSION, "kind": WORKLOAD}
    meta = {"name": "workload", "namespace": item["metadata"].get("namespace")}  # other kinds may have longer names
    if kind in _GROUPS:
        return {
            **top,
            "metadata": meta,
            "spec": {"replicas": spec.get(_GROUPS[kind], 1), "template": spec.get("template")},
        }
    if kind == "LeaderWorkerSet":
        group = at(spec, "leaderWorkerTemplate")
        body = {
            "replicas": spec.get("replicas", 1),
            "groupSize": group.get("size", 1),
            "template": group.get("workerTemplate"),
        }
        return {**top, "metadata": meta, "spec": body}
    if kind == "Pod":
        return {**top, "metadata": meta, "spec": {"replicas": 1, "template": {"metadata": {}, "spec": dict(spec)}}}
    return None


def _views(paths: Sequence[str], policy: str | None, vendors: tuple[Vendor, ...]) -> Iterator[View]:
    """A view for each file, or for each file and folder in a folder; a Cluster among its objects says more of it."""
    entries = [entry for path in paths for entry in _entries(Path(path))]
    if not entries:
        raise CliError(f"{', '.join(paths)}: no file; give a file for each cluster, or a folder of them")
    seen: set[str] = set()
    for entry in entries:
        name = entry.stem
        if name in seen:
            raise CliError(f"{entry}: a second cluster called {name}: give each file its own name")
        seen.add(name)
        spec = ClusterSpec(name)
        for path, item in read_objects(str(entry)):
            if item.get("kind") == CLUSTER:
                try:
                    spec = replace(parse_cluster(item), name=name)
                except WireError as error:
                    raise CliError(f"{path}: {error}") from error
        world = world_of_files([str(entry)], policy, vendors)
        store = world.seen().store
        pods = fleet_pods([dict(pod) for pod in world.pods], NAME, name, store)
        yield View(spec, nodes=tuple(store.desk.nodes()), states=store.desk.states(), pods=tuple(pods))


def _entries(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(e for e in path.iterdir() if e.is_dir() or e.suffix in {".yaml", ".yml", ".json"})


def _further(made: Shapes, best: FleetPlan) -> tuple[Next, ...]:
    """For each model and cluster that has it, the plan with one more node of it."""
    found = []
    for site in made.problem.sites:
        for name in {kind: None for node, _ in site.nodes for kind in (node.kind,)}:
            node = max((n for n, _ in site.nodes if n.kind == name), key=lambda n: (len(n.cards), n.cpu_milli))
            empty = made.problem.kind(name).empty
            fresh = NodeSpace(name, (empty,) * len(node.cards), max(node.cpu_milli, 1), max(node.memory_mib, 1))
            more = plan_fleet(_with_node(made.problem, site, fresh))
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
                    {"workload": p.demand, "cluster": p.site, **_cards_of(found.made, p.kind), "replicas": p.units}
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
        "leftOut": list(found.left_out),
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
    parts = [(p.demand, p.site, found.made.label(p.kind), str(p.units)) for p in best.parts]
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
        say(f"✗ {name}: {n} replicas have no place")
    if found.made.unpriced:
        say(f"no price for {', '.join(found.made.unpriced)}: counted as the dearest card; --prices FILE says more")
    say(*(f"! {line}" for line in found.left_out))
    return int(not found.whole)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    sheet = Sheet(title, heads)
    for row in rows:
        sheet.add(*row)
    sheet.print()
