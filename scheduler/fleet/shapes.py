"""Clusters and workloads as a problem of the solver: equal nodes counted, templates as pieces of cards. Pure."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kerf.pricing.prices import PriceList
from kerf.values.accepts import Accept
from kerf.values.allocator import Allocator
from kerf.values.ask import PodAsk, Stage
from kerf.values.card_names import nearest
from kerf.values.device import Card, Mode
from kerf.values.fleet import FleetWorkload
from kerf.values.node import Node
from kerf.values.policy import SchedulingPolicy
from kerf.values.slicing import alone_on, size_on
from kerf.values.vendor import ResourceNames
from kerf.wire.claims import names_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.resources import parse_pod
from scheduler.core.eligible import is_eligible
from scheduler.core.preference import prefer, wished
from scheduler.core.state import CardState, NodeState
from scheduler.fleet.claims import pieces_of, takes_claims
from scheduler.fleet.neighbours import apart, barred
from scheduler.fleet.view import View
from scheduler.solver.fleet.problem import MICRO, Demand, Fit, FleetProblem, Held, Kind, NodeSpace, Piece, Site, Space
from scheduler.solver.fleet.seats import Named

FREE = 1000
"""A card that costs nothing weighs this part of the dearest one: plans pack free cards, too."""


class NoCards(WireError):
    """A template that asks for no card."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What every cluster's pods are read with, and what cards cost."""

    names: tuple[ResourceNames, ...]
    policy: SchedulingPolicy
    prices: PriceList


@dataclass(frozen=True, slots=True)
class Want:
    """Units of a workload to place. `fixed` counts further ones by cluster; `running` has those that would rather stay.

    `avoid` names clusters that take none of these units.
    """

    workload: FleetWorkload
    units: int
    running: tuple[tuple[str, str, int], ...] = ()
    """By cluster and model."""
    fixed: tuple[tuple[str, int], ...] = ()
    avoid: frozenset[str] = frozenset()
    stay_percent: float = 1.0
    """What moving one unit costs, as a part of the dearest place for it."""


@dataclass(slots=True)
class Shapes:
    """The problem, and the card that each of its kinds stands for."""

    problem: FleetProblem
    cards: dict[str, Card] = field(default_factory=dict)
    unpriced: tuple[str, ...] = ()
    """Models without a price; they weigh as much as the dearest one."""
    nodes: dict[tuple[str, NodeSpace], list[Named]] = field(default_factory=dict)
    """The nodes of each cluster by what is free on them, with the ids of their cards."""

    def model(self, kind: str) -> str:
        """The model of a kind's cards."""
        return self.cards[kind].model

    def prices_in(self, cluster: str) -> dict[str, int]:
        """What an hour of a card of each model costs in a cluster, in millionths."""
        return {self.model(kind): price for kind, price in self.problem.site(cluster).money}

    def label(self, kind: str) -> str:
        """The model of a kind's cards for people, with what sets them apart from others of that model."""
        card = self.cards[kind]
        apart = [card.mode.word] if card.mode is not Mode.SHARED else []
        apart += ["claims"] if card.allocator is Allocator.DRA else []
        return f"{card.model} ({', '.join(apart)})" if apart else card.model


def shapes(views: Sequence[View], wants: Sequence[Want], terms: Terms, *, own_stays: bool = True) -> Shapes:
    """Build the problem. Unless `own_stays`, what these workloads' pods hold counts as free. Raises WireError."""
    groups = _Groups(wants)
    claimed = any(want.workload.devices for want in wants)
    kinds: dict[tuple[object, ...], tuple[Kind, Card, frozenset[int]]] = {}
    nodes: dict[tuple[str, NodeSpace], list[Named]] = defaultdict(list)
    workloads, wanted = [want.workload for want in wants], {want.workload.key for want in wants}
    asks = {one.key: read_template(one, None, terms) for one in workloads}
    for view in views:
        closed = barred(view.neighbours, workloads, own_stays=own_stays)
        mine = (pod for pod in view.pods if own_stays or pod.workload in wanted)
        own = Counter(card for pod in mine for card in pod.cards)
        by_name = {node.name: node for node in view.nodes}
        back = {} if own_stays else _given_back(view, asks)
        for state in view.states if view.takes_work else ():
            node = by_name.get(state.name)
            if node is not None and node.ready:
                cordoned = node.cordoned if claimed and view.knows_claims else None
                usable = _usable(_with_back(state, back), cordoned)
                for space, ids in _node_spaces(usable, groups.of(node), kinds, own, own_stays):
                    there = replace(space, apart=closed[state.name]) if state.name in closed else space
                    nodes[view.name, there].append((state.name, ids))
    cards = {kind.name: card for kind, card, _ in kinds.values()}
    allowed = {kind.name: group for kind, _, group in kinds.values()}
    prices, unpriced = _prices(views, {card.model for card in cards.values()}, terms.prices)
    sites = tuple(_site(view, nodes, cards, prices) for view in views)
    fresh, beside = [view for view in views if view.takes_work], apart(workloads)
    asked = (_demand(want, fresh, cards, sites, terms, _kinds_of(i, allowed)) for i, want in enumerate(wants))
    demands = tuple(replace(each, apart=beside.get(each.name, ())) for each in asked)
    problem = FleetProblem(tuple(kind for kind, _, _ in kinds.values()), sites, demands)
    return Shapes(problem, cards, unpriced, dict(nodes))


def _site(
    view: View,
    nodes: Mapping[tuple[str, NodeSpace], Sequence[Named]],
    cards: Mapping[str, Card],
    prices: Mapping[tuple[str, str], int],
) -> Site:
    free = max(prices.values(), default=0) // FREE or MICRO
    money = {name: prices[view.name, card.model] for name, card in cards.items()}
    return Site(
        view.name,
        tuple(sorted((space, len(found)) for (name, space), found in nodes.items() if name == view.name)),
        tuple(money.items()),
        tuple((name, round((price or free) / view.reliability)) for name, price in money.items()),
        view.spec.region,
    )


class _Groups:
    """Which of the workloads may use a node, its cards apart: templates with equal rules are asked once."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self._rules: dict[str, tuple[Json, list[int]]] = {}
        for i, want in enumerate(wants):
            spec = at(want.workload.template, "spec")
            rules = {key: spec.get(key) for key in ("nodeSelector", "tolerations", "affinity") if spec.get(key)}
            self._rules.setdefault(json.dumps(rules, sort_keys=True, default=str), (spec, []))[1].append(i)

    def of(self, node: Node) -> frozenset[int]:
        """The workloads, by position, that a node may run."""
        return frozenset(i for spec, who in self._rules.values() if is_eligible(spec, node) for i in who)


def _kinds_of(i: int, allowed: Mapping[str, frozenset[int]]) -> set[str]:
    return {name for name, group in allowed.items() if i in group}


def _given_back(view: View, asks: Mapping[str, PodAsk]) -> dict[str, tuple[int, int]]:
    """By node, CPU and memory of the pods of these workloads that are there."""
    found: dict[str, tuple[int, int]] = {}
    for pod in view.pods:
        if pod.node and pod.workload in asks:
            cpu, memory = found.get(pod.node, (0, 0))
            found[pod.node] = cpu + asks[pod.workload].cpu_milli, memory + asks[pod.workload].memory_mib
    return found


def _with_back(state: NodeState, back: Mapping[str, tuple[int, int]]) -> NodeState:
    cpu, memory = back.get(state.name, (0, 0))
    return replace(state, free_cpu_milli=state.free_cpu_milli + cpu, free_memory_mib=state.free_memory_mib + memory)


def _usable(state: NodeState, cordoned: Sequence[str] | None) -> NodeState:
    """The node with those cards usable, too, that claims may get; None: what claims hold there is not asked for."""
    if cordoned is None or not state.schedulable:
        return state
    cards = (replace(each, usable=each.usable or takes_claims(each, cordoned)) for each in state.cards)
    return replace(state, cards=tuple(cards))


def _node_spaces(
    state: NodeState,
    group: frozenset[int],
    kinds: dict[tuple[object, ...], tuple[Kind, Card, frozenset[int]]],
    own: Mapping[str, int],
    own_stays: bool,
) -> Iterable[tuple[NodeSpace, tuple[str, ...]]]:
    """A node by the kind of its cards, and their ids. Its CPU and memory count for each kind of its cards."""
    by_kind: dict[str, list[tuple[Space, str]]] = defaultdict(list)
    for card_state in state.cards:
        if not card_state.usable or not group:
            continue
        card = card_state.card
        size = (card.memory_mib, card.cores, card.slots, card.slicing)
        key = (card.vendor, card.model, card.mode, card.allocator, size, group)
        if key not in kinds:
            alike = sum(other[1].model == card.model for other in kinds.values())
            name = f"{card.model} ({alike + 1})" if alike else card.model
            kinds[key] = (Kind(name, card.memory_mib, card.cores, card.slots), card, group)
        space = _space(card_state, kinds[key][0], own.get(card.id, 0), own_stays)
        if space.slots > 0 and space.memory_mib > 0:
            by_kind[kinds[key][0].name].append((space, card.id))
    left = max(state.free_cpu_milli, 0), max(state.free_memory_mib, 0)
    for name, found in by_kind.items():
        found.sort()
        yield NodeSpace(name, tuple(space for space, _ in found), *left), tuple(id_ for _, id_ in found)


def _space(state: CardState, kind: Kind, own: int, own_stays: bool) -> Space:
    if not state.used.slots or (not own_stays and own >= state.used.slots):
        return kind.empty
    free = state.free
    return Space(free.memory_mib, max(free.cores, 0), free.slots, Held.PAID if own >= state.used.slots else Held.SHARED)


def _prices(
    views: Sequence[View], models: Iterable[str], prices: PriceList
) -> tuple[dict[tuple[str, str], int], tuple[str, ...]]:
    """What an hour of each model costs in each cluster. What has no price is never the cheapest."""
    known = {
        (view.name, model): None if price is None else round(price.per_hour * MICRO)
        for view in views
        for model in models
        for price in (prices.of(model, view.spec.supply.value, view.spec.region or None),)
    }
    dearest = max((each for each in known.values() if each is not None), default=MICRO)
    unpriced = tuple(sorted({model for (_, model), each in known.items() if each is None}))
    return {key: dearest if each is None else each for key, each in known.items()}, unpriced


def _demand(
    want: Want, views: Sequence[View], cards: Mapping[str, Card], sites: Sequence[Site], terms: Terms, kinds: set[str]
) -> Demand:
    one = want.workload
    fits, ask = [], read_template(one, None, terms)
    by_name = {name: card for name, card in cards.items() if name in kinds}
    for name, card in by_name.items():
        fit = _fit(one, name, card, terms, tuple({each.model for each in cards.values()}))
        if fit is not None:
            fits.append(fit)
    allowed = frozenset(view.name for view in views if allows(one, view) and view.name not in want.avoid)
    prices = {(site.name, kind): price for site in sites for kind, price in site.price}
    by_name = {fit.kind: cards[fit.kind] for fit in fits}
    size = {fit.kind: sum(p.cards * p.share(kind_of(cards[fit.kind], fit.kind)) for p in fit.pieces) for fit in fits}
    dearest = max((prices[s, k] * part * one.group_size for k, part in size.items() for s in allowed), default=0.0)
    preferred = set(one.prefer_regions)
    extra = tuple(
        (view.name, round(dearest * one.elsewhere_percent / 100))
        for view in views
        if preferred and view.spec.region not in preferred
    )
    running = tuple((cluster, name, n) for cluster, model, n in want.running for name in _first(by_name, model))
    return Demand(
        name=one.key,
        units=want.units,
        fits=tuple(fits),
        pods=one.group_size,
        cpu_milli=ask.cpu_milli,
        memory_mib=ask.memory_mib,
        priority=one.priority,
        sites=allowed,
        extra=extra,
        most=one.most_per_cluster,
        survive=one.survive,
        running=running,
        move_cost=round(dearest * want.stay_percent / 100) if running else 0,
        fixed=want.fixed,
    )


def _first(cards: Mapping[str, Card], model: str) -> list[str]:
    return [name for name, card in cards.items() if card.model == model][:1]


def kind_of(card: Card, name: str) -> Kind:
    """A card as a kind of this name."""
    return Kind(name, card.memory_mib, card.cores, card.slots)


def allows(workload: FleetWorkload, view: View) -> bool:
    """Whether a workload's own words let it go to a cluster."""
    spec = view.spec
    return (
        (not workload.clusters or spec.name in workload.clusters)
        and (not workload.regions or spec.region in workload.regions)
        and (workload.supply is None or workload.supply is spec.supply)
    )


def _fit(one: FleetWorkload, name: str, card: Card, terms: Terms, models: tuple[str, ...]) -> Fit | None:
    accept = accepted(one, card.model)
    if one.accepts and accept is None:
        return None
    if one.devices or card.allocator is Allocator.DRA:
        given = card.allocator is Allocator.DRA and one.devices
        claimed = pieces_of(one.devices, card, terms.policy.defaults) if given else None
        return None if claimed is None else Fit(name, claimed)
    ask = read_template(one, accept, terms)
    selection = ask.selection.among(models)
    if any(each.vendor != card.vendor for each in ask.containers) or not selection.takes(card.model, card.mode.value):
        return None
    mutex = prefer(*wished(ask, terms.policy)).mutex
    pieces = []
    for each in ask.containers:
        size = size_on(each, card)
        if size is None:
            return None
        if each.stage is Stage.INIT and any(
            other.stage is not Stage.INIT and other.cards >= each.cards and other.cores >= each.cores
            and other.memory_on(card.factory_memory_mib) >= each.memory_on(card.factory_memory_mib)
            for other in ask.containers
        ):  # fmt: skip
            continue  # it is over when the container that needs as much starts
        alone = alone_on(size.cores, card, mutex)
        pieces.append(Piece(size.memory_mib, max(1, size.cores), each.cards, alone))
    return Fit(name, tuple(pieces))


def accepted(workload: FleetWorkload, model: str) -> Accept | None:
    """What a workload says of a model of card; None where it says nothing."""
    name = nearest(model, [name for each in workload.accepts for name in each.models])
    return next((each for each in workload.accepts if name in each.models), None)


def read_template(workload: FleetWorkload, accept: Accept | None, terms: Terms) -> PodAsk:
    """What one pod asks for. Raises WireError, and NoCards where it asks for no card."""
    pod = sized(workload, accept, terms.names)
    ask = parse_pod(pod, terms.names, terms.policy.defaults)
    if ask.containers and names_claims(pod):
        fix = "ask by claims, or by limits such as nvidia.com/gpumem: a pod uses one way"
        raise WireError("spec.template.spec.resourceClaims", at(pod, "spec").get("resourceClaims"), fix)
    if not ask.containers and not workload.devices:
        raise NoCards("spec.template", "no container asks for a card", "use a Deployment: a fleet is planned by cards")
    return replace(ask, gang=None, gang_size=0)


def sized(workload: FleetWorkload, accept: Accept | None, names: Sequence[ResourceNames]) -> dict[str, object]:
    """The template as a pod, with the slices that a model of card gets. Raises WireError."""
    template = workload.template
    spec = at(template, "spec")
    containers = [dict(each) for each in spec.get("containers") or ()]
    if accept is not None and (accept.memory_mib is not None or accept.cores is not None):
        asking = [(c, n) for c in containers for n in names if n.count in at(c, "resources", "limits")]
        if len(asking) != 1:
            fix = "leave out memoryMiB and cores unless exactly one container asks for cards"
            raise WireError("spec.accepts", accept.name, fix)
        container, words = asking[0]
        limits = dict(at(container, "resources", "limits"))
        if accept.memory_mib is not None:
            limits.pop(words.memory_percent, None)
            limits[words.memory] = str(accept.memory_mib)
        if accept.cores is not None:
            limits[words.cores] = str(accept.cores)
        container["resources"] = {**at(container, "resources"), "limits": limits}
    meta = {**at(template, "metadata"), "namespace": workload.namespace, "name": workload.name}
    return {"metadata": meta, "spec": {**spec, "containers": containers}}
