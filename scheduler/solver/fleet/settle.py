"""A plan's counts put onto nodes: what the tables promise becomes a plan of which every pod has a card."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import lcm

from scheduler.solver.fleet.books import Books, Place
from scheduler.solver.fleet.problem import Block, Demand, Fit, Part, Site, Slot, Space
from scheduler.solver.fleet.shelf import Shelf
from scheduler.solver.fleet.table import Fleet, Item, Spot

Fillings = Mapping[tuple[Spot, int], int]
"""How many cards of each spot are filled in which way."""


def settle(fleet: Fleet, parts: Iterable[Part], fillings: Fillings) -> Books:
    """Put the units of the parts onto nodes, filled as the plan says; then what is left, wherever it fits best."""
    books = Books(fleet.problem)
    demands = {demand.name: demand for demand in fleet.problem.demands}
    wanted: dict[Place, dict[str, int]] = defaultdict(dict)
    for part in parts:
        wanted[part.site, part.kind][part.demand] = part.units
    ways: dict[Place, list[tuple[Space, int, int]]] = defaultdict(list)
    for ((site, kind, space), row), count in fillings.items():
        ways[site, kind].append((space, row, count))
    for place, units in sorted(wanted.items()):
        _settle_place(fleet, books, place, {demands[name]: n for name, n in units.items()}, ways[place])
    spill(books)
    return books


def spill(books: Books) -> None:
    """Place what has no place yet, the most important and largest first, where it is cheapest."""
    kinds = books.kinds

    def size(demand: Demand) -> float:
        return max((fit.cards(kinds[fit.kind]) for fit in demand.fits if fit.kind in kinds), default=0.0) * demand.pods

    for demand in sorted(books.problem.demands, key=lambda each: (-each.priority, -size(each), each.name)):
        for site, fit in cheapest_first(books, demand):
            if not books.missing(demand):
                break
            books.add(demand, site.name, fit, books.missing(demand))


def cheapest_first(books: Books, demand: Demand) -> list[tuple[Site, Fit]]:
    """Where a workload may go, by what one unit weighs there."""
    extra = dict(demand.extra)
    found = [
        (
            fit.cards(books.kinds[fit.kind]) * demand.pods * site.price_of(fit.kind) + extra.get(site.name, 0),
            i,
            site,
            fit,
        )
        for site in books.problem.sites
        if demand.allows(site.name)
        for i, fit in enumerate(demand.fits)
        if (site.name, fit.kind) in books.shelves
    ]
    return [(site, fit) for _, _, site, fit in sorted(found, key=lambda each: (each[0], each[1], each[2].name))]


def _settle_place(
    fleet: Fleet, books: Books, place: Place, units: dict[Demand, int], ways: Sequence[tuple[Space, int, int]]
) -> None:
    shelf, (site, kind) = books.shelves[place], place
    wanted = {demand: min(n, books.room(demand, site, _fit(demand, kind))) for demand, n in units.items()}
    before = shelf.saved()
    while True:
        left = _put(fleet, shelf, place, wanted, ways)
        whole = {demand: n - -(-left[demand.name] // demand.pods) for demand, n in wanted.items()}
        if not any(left[demand.name] % demand.pods for demand in wanted):
            break
        shelf.restore(before)  # no cards for a part of a group
        wanted = whole
    for demand, n in whole.items():
        books.count(demand, site, kind, n)


def _put(
    fleet: Fleet, shelf: Shelf, place: Place, wanted: Mapping[Demand, int], ways: Sequence[tuple[Space, int, int]]
) -> Counter[str]:
    """Put units onto a shelf, as the fillings say as far as they go; how many pods of each workload have no place."""
    kind = place[1]
    left = Counter({demand.name: n * demand.pods for demand, n in wanted.items()})
    for demand in wanted:
        if len(_fit(demand, kind).pieces) > 1:  # its pieces belong on one node, which fillings of cards do not know
            left[demand.name] -= shelf.add_pods(demand, _fit(demand, kind), left[demand.name])
    # Fillings of cards know of no nodes, so pods that stay apart come after those that are filled in.
    closed = {name for node in shelf.nodes for name in node.apart}
    simple = {
        demand.name: demand
        for demand in wanted
        if len(_fit(demand, kind).pieces) == 1 and not demand.apart and demand.name not in closed
    }
    items = fleet.items[kind]
    blocks = []
    for space, row, count in ways:
        rows = fleet.fillings[kind, space].rows[row]
        counts = {items[i]: int(n) for i, n in enumerate(rows) if n and items[i].demand in simple}
        if counts:
            blocks.append((lcm(*(item.piece.cards for item in counts)), space, counts, count))
    for size, space, counts, count in sorted(blocks, key=lambda block: (-block[0], block[1].memory_mib)):
        _fill(shelf, space, (size, count), counts, (simple, left))
    for demand in sorted(wanted, key=lambda each: -_fit(each, kind).cards(shelf.kind)):
        left[demand.name] -= shelf.add_pods(demand, _fit(demand, kind), left[demand.name])
    return left


def _fill(
    shelf: Shelf,
    space: Space,
    block: tuple[int, int],
    counts: Mapping[Item, int],
    books: tuple[Mapping[str, Demand], Counter[str]],
) -> None:
    """Fill `block[1]` cards in blocks of `block[0]` of one node, with pods that still want a place."""
    (size, cards), (demands, left) = block, books
    want = -(-cards // size)
    while want > 0:
        # Pods in one block: as the filling says, or what is left of them for a last block.
        pods = {item: min(n * size // item.piece.cards, left[item.demand]) for item, n in counts.items()}
        pods = {item: n for item, n in pods.items() if n}
        if not pods:
            return
        times = max(1, min(want, *(left[item.demand] // n for item, n in pods.items())))
        seated = _seated(space, size, pods)
        if seated is None:
            return
        demand = (
            sum(demands[item.demand].cpu_milli * n for item, n in pods.items()),
            sum(demands[item.demand].memory_mib * n for item, n in pods.items()),
        )
        share = sum(item.piece.share(shelf.kind) * item.piece.cards * n for item, n in pods.items())
        done = shelf.add_blocks(Block(space, seated[0], share, demand, seated[1]), times)
        for item, n in pods.items():
            left[item.demand] -= n * done
        want -= done
        if done < times:
            return


def _seated(
    space: Space, size: int, pods: Mapping[Item, int]
) -> tuple[tuple[Slot, ...], tuple[tuple[str, tuple[int, ...]], ...]] | None:
    """What the pods of a block take of each card, and each one's cards. None where they do not fit.

    Those of several cards come first, each on the least used cards.
    """
    cards: list[list[int]] = [[0, 0, 0] for _ in range(size)]
    seats = []
    for item, n in sorted(pods.items(), key=lambda each: -each[0].piece.cards):
        for _ in range(n):
            order = sorted(range(size), key=lambda i: (cards[i][2], i))[: item.piece.cards]
            seats.append((item.demand, order))
            for i in order:
                cards[i][0] += item.piece.memory_mib
                cards[i][1] += space.cores if item.piece.alone else item.piece.cores
                cards[i][2] += 1
    used = [i for i, card in enumerate(cards) if card[2]]
    takes = tuple((cards[i][0], cards[i][1], cards[i][2]) for i in used)
    if any(m > space.memory_mib or c > space.cores or s > space.slots for m, c, s in takes):
        return None
    return takes, tuple((name, tuple(used.index(i) for i in order)) for name, order in seats)


def _fit(demand: Demand, kind: str) -> Fit:
    found = demand.fit(kind)
    assert found is not None, "a part of a plan names a kind that its workload accepts"
    return found
