"""Every plan is recomputed here before anyone sees it: rules of the cluster, no code of the planner."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

from kerf.values.alike import together
from kerf.values.ask import ContainerAsk, PodAsk, Stage
from kerf.values.card_names import meant
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, Grant, Holding, Slice, card_uses
from kerf.values.quota import DIMENSIONS, NOTHING, Amount, class_of, usage_of_grant
from kerf.values.slicing import alone_on, sizes
from scheduler.core.state import NodeState
from scheduler.solver.problem import Assignment, Problem, QuotaRoom, Repack

Stages = tuple[tuple[str, Stage], ...]


def broken_rules(problem: Problem, assignments: tuple[Assignment, ...]) -> tuple[str, ...]:
    """What is wrong with the assignments, one sentence a finding; empty for a sound plan."""
    asks = {ask.uid: ask for ask in problem.asks}
    nodes = {node.name: node for node in problem.nodes}
    strangers = [a.pod_key for a in assignments if a.pod_uid not in asks or a.node not in nodes]
    if strangers:
        return tuple(f"{key}: unknown pod or node" for key in strangers)
    twice = [uid for uid, count in Counter(a.pod_uid for a in assignments).items() if count > 1]
    found = [f"{asks[uid].key}: placed twice" for uid in twice]
    offered = dict(problem.offered)
    on_node: dict[str, list[Assignment]] = defaultdict(list)
    for a in assignments:
        if a.node not in offered.get(a.pod_uid, {a.node}):
            found.append(f"{a.pod_key}: {a.node} is not on offer")
        chain = asks[a.pod_uid].wishes.card_policies or problem.policy.cards
        found += [f"{a.pod_key}: {text}" for text in _grant(asks[a.pod_uid], a, nodes[a.node])]
        found += [f"{a.pod_key}: {text}" for text in _filters(chain, a, nodes[a.node])]
        found += [f"{a.pod_key}: {text}" for text in _one_card(asks[a.pod_uid], a)]
        on_node[a.node].append(a)
    for name in sorted(on_node):
        found += [f"{name}: {text}" for text in _node(nodes[name], [(asks[a.pod_uid], a) for a in on_node[name]])]
    found += _quotas(problem, [(asks[a.pod_uid], a) for a in assignments])
    return tuple(found + list(_gangs(problem, {a.pod_uid for a in assignments})))


def broken_moves(problem: Problem, repack: Repack, most: int) -> tuple[str, ...]:
    """What is wrong with moves executed one by one, and with the places of the target after the last of them."""
    nodes = {node.name: node for node in problem.nodes}
    movable = {each.holding.uid: each for each in problem.movable}
    left = Counter(dict(problem.budgets))
    if len({move.uid for move in repack.moves}) < len(repack.moves) or len(repack.moves) > most:
        return (f"{len(repack.moves)} moves, {most} allowed, each pod once",)
    found: list[str] = []
    quotas = problem.quotas
    for move in repack.moves:
        if move.uid not in movable or move.to_node not in nodes or movable[move.uid].holding.node != move.from_node:
            return (*found, f"{move.pod}: unknown pod or node")
        each = movable[move.uid]
        left.subtract(each.pdb)
        nodes[move.from_node] = _count(nodes[move.from_node], each.ask, each.holding, -1)
        quotas = _settle(problem, quotas, (each.ask, each.holding.grant, each.holding.stages), -1)
        ask = replace(each.ask, gang=None)
        # The card that the pod leaves and the one that it gets both belong to the problem: quotas need every card.
        alone = replace(problem, nodes=tuple(nodes.values()), asks=(ask,), quotas=quotas)
        found += broken_rules(alone, (Assignment(each.ask.uid, move.pod, move.to_node, move.grant),))
        landed = replace(each.holding, grant=move.grant)
        nodes[move.to_node] = _count(nodes[move.to_node], each.ask, landed, 1)
        quotas = _settle(problem, quotas, (each.ask, move.grant, each.holding.stages), 1)
    found += [f"budget {name} allows no more evictions" for name in sorted(left) if left[name] < 0]
    found += broken_rules(replace(problem, nodes=tuple(nodes.values()), quotas=quotas), repack.placed)
    return tuple(found)


def _count(node: NodeState, ask: PodAsk, holding: Holding, sign: int) -> NodeState:
    uses = card_uses(holding.grant, holding.stages)
    cards = []
    for state in node.cards:
        use = uses.get(state.card.id, NO_USE)
        cards.append(replace(state, used=state.used + use if sign > 0 else state.used - use))
    cpu, memory = node.free_cpu_milli - sign * ask.cpu_milli, node.free_memory_mib - sign * ask.memory_mib
    return replace(node, cards=tuple(cards), free_cpu_milli=cpu, free_memory_mib=memory)


def _grant(ask: PodAsk, assignment: Assignment, node: NodeState) -> Iterator[str]:
    states = {state.card.id: state for state in node.cards}
    held = {container.name: container.slices for container in assignment.grant.containers}
    if not node.schedulable or [c.name for c in assignment.grant.containers] != [
        c.name for c in ask.containers if c.cards
    ]:
        yield "the containers of the grant are not those of the ask, or the node is cordoned"
    for want in ask.containers:
        slices = held.get(want.name, ())
        ids = [piece.card for piece in slices]
        if len(ids) != want.cards or len(set(ids)) != len(ids):
            yield f"{want.name} wants {want.cards} distinct cards, got {ids}"
        known = [states[i].card for i in ids if i in states and states[i].usable]
        if len(known) != len(ids) or not all(_selected(card, want, ask) for card in known):
            yield f"{want.name}: a card of {ids} is missing, unusable or not selected"
        if not together(ask.selection, known):
            yield f"{want.name}: cards of several NUMA nodes or models"
        for piece, card in zip(slices, known, strict=False):
            yield from _piece(piece, want, card)


def _one_card(ask: PodAsk, assignment: Assignment) -> Iterator[str]:
    slices = [piece for container in assignment.grant.containers for piece in container.slices]
    for vendor in ask.selection.same_card:
        held = {c.name: {p.card for p in c.slices if p.vendor == vendor} for c in assignment.grant.containers}
        if any(cards != {p.card for p in slices if p.vendor == vendor} for cards in held.values() if cards):
            yield f"the pod's {vendor} slices are not on the same cards"


def _piece(piece: Slice, want: ContainerAsk, card: Card) -> Iterator[str]:
    size = next(iter(sizes(want, card)), None)
    if piece.memory_mib > min(card.factory_memory_mib, card.memory_mib):
        yield f"{want.name}: {piece} is larger than the hardware"
    elif size is None or (piece.vendor, piece.memory_mib, piece.cores) != (want.vendor, size.memory_mib, size.cores):
        yield f"{want.name}: {piece} is not what was asked"
    elif piece.place not in ([place.adds for place in size.places] or [0]):
        yield f"{want.name}: {piece} lies where such a slice cannot lie"


def _filters(chain: tuple[str, ...], assignment: Assignment, node: NodeState) -> Iterator[str]:
    states = {state.card.id: state for state in node.cards}
    for container in assignment.grant.containers:
        held = [states[piece.card] for piece in container.slices if piece.card in states]
        if "mutex" in chain and any(state.used.slots for state in held):
            yield f"{container.name}: a card is not its own"
        if ("topology" in chain or "topology-aware" in chain) and not _linked([state.card for state in held]):
            yield f"{container.name}: its cards are not linked"


def _linked(cards: list[Card]) -> bool:
    reached, apart = cards[:1], cards[1:]
    while near := [card for card in apart if any(card.id in r.links or r.id in card.links for r in reached)]:
        reached, apart = reached + near, [card for card in apart if card not in near]
    return not apart


def _selected(card: Card, want: ContainerAsk, ask: PodAsk) -> bool:
    choice = ask.selection
    named = card.id in choice.use_ids if choice.use_ids else card.id not in choice.avoid_ids
    models = (*choice.known, card.model)
    typed = not choice.use_types or any(card.model in meant(written, models) for written in choice.use_types)
    avoided = any(card.model in meant(written, models) for written in choice.avoid_types)
    banned = card.id in choice.avoid_ids or avoided
    classes = [slug for slug in choice.classes if slug.startswith(f"{card.vendor}-")]
    barred = banned or (bool(classes) and class_of(card).slug not in classes)
    return card.vendor == want.vendor and named and typed and not barred and card.mode in (choice.modes or (card.mode,))


def _quotas(problem: Problem, pods: list[tuple[PodAsk, Assignment]]) -> Iterator[str]:
    for room in problem.quotas:
        taken: dict[str, Amount] = {}
        names = _names(problem, room)
        for ask, a in pods:
            usage = usage_of_grant(a.grant, tuple((c.name, c.stage) for c in ask.containers), names)
            for name, amount in usage.by if room.covers(ask) else ():
                taken[name] = taken.get(name, NOTHING) + amount
        for name, amount in sorted(taken.items()):
            for dimension in DIMENSIONS:
                left, more = room.bound(name).of(dimension), getattr(amount, dimension)
                if left is not None and more and more > left:
                    yield f"{room.owner} has {max(left, 0)} {dimension} of {name} left, {more} are taken"


def _names(problem: Problem, room: QuotaRoom) -> dict[str, str]:
    """What each card counts as: its vendor or its class."""
    cards = (state.card for node in problem.nodes for state in node.cards)
    return {card.id: card.vendor if room.by_vendor else class_of(card).slug for card in cards}


def _settle(
    problem: Problem, quotas: tuple[QuotaRoom, ...], pod: tuple[PodAsk, Grant, Stages], sign: int
) -> tuple[QuotaRoom, ...]:
    """The quotas once a pod has come, or gone (-1)."""
    ask, grant, stages = pod
    settled = []
    for room in quotas:
        left = dict(room.left)
        mine = room.covers(ask)
        for name, amount in usage_of_grant(grant, stages, _names(problem, room)).by if mine else ():
            left[name] = room.bound(name).less(amount * sign)
        settled.append(replace(room, left=tuple(left.items())))
    return tuple(settled)


def _node(node: NodeState, pods: list[tuple[PodAsk, Assignment]]) -> Iterator[str]:
    if sum(ask.cpu_milli for ask, _ in pods) > max(0, node.free_cpu_milli):
        yield "more CPU than is free"
    if sum(ask.memory_mib for ask, _ in pods) > max(0, node.free_memory_mib):
        yield "more memory than is free"
    totals: dict[str, CardUse] = defaultdict(CardUse)
    pods_on: Counter[str] = Counter()
    cards = {state.card.id: state.card for state in node.cards}
    alone: set[str] = set()
    idle: set[str] = set()
    for ask, a in pods:
        for card, use in card_uses(a.grant, tuple((c.name, c.stage) for c in ask.containers)).items():
            totals[card] += use
            pods_on[card] += 1
        pieces = [piece for container in a.grant.containers for piece in container.slices]
        alone |= {piece.card for piece in pieces if piece.card in cards and alone_on(piece.cores, cards[piece.card])}
        idle |= {piece.card for piece in pieces if piece.cores == 0}
    yield from _places(node, pods)
    for state in node.cards:
        use, free = totals.get(state.card.id, NO_USE), state.free
        if use is NO_USE:
            continue
        if use.memory_mib > free.memory_mib or use.cores > free.cores or use.slots > free.slots:
            yield f"card {state.card.id} is over-committed: {use} of {free}"
        if state.card.id in alone and (pods_on[state.card.id] > 1 or state.used.slots):
            yield f"card {state.card.id} is held exclusively and shared"
        if state.card.id in idle and state.used.cores >= state.card.cores > 0:
            yield f"card {state.card.id} has no cores left even for best effort"


def _places(node: NodeState, pods: list[tuple[PodAsk, Assignment]]) -> Iterator[str]:
    """Slices of different pods that cannot lie beside each other, in whatever order they come."""
    for state in node.cards:
        lies: list[tuple[str, int, int]] = []
        for ask, a in pods:
            for want in ask.containers:
                places = [place for size in sizes(want, state.card)[:1] for place in size.places]
                for piece in (piece for piece in a.grant.of(want.name) if piece.card == state.card.id):
                    lies += [(a.pod_uid, p.adds, p.blocked) for p in places if p.adds == piece.place]
        for i, (uid, adds, blocked) in enumerate(lies):
            if state.used.places & blocked:
                yield f"card {state.card.id} holds what a slice of {uid} cannot lie beside"
            if any(adds & b and a & blocked for other, a, b in lies[:i] if other != uid):
                yield f"card {state.card.id}: slices of two pods cannot lie beside each other"


def _gangs(problem: Problem, placed: set[str]) -> Iterator[str]:
    running = dict(problem.running)
    members: dict[str, list[PodAsk]] = defaultdict(list)
    for ask in problem.asks:
        if ask.gang is not None:
            members[ask.gang].append(ask)
    for name, asks in members.items():
        started = sum(ask.uid in placed for ask in asks)
        size = max(ask.gang_size for ask in asks)
        if started and running.get(name, 0) * bool(size) + started < (size or len(asks)):
            yield f"gang {name}: {started} of {size or len(asks)} placed"
