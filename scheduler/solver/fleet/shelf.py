"""The nodes of one cluster with cards of one kind, equal ones counted, and pods put onto them.

What the tables of a plan only bound is exact here: several cards of one node, its CPU and its memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scheduler.solver.fleet.problem import Block, Demand, Fit, Held, Kind, NodeSpace, Piece, Slot, Space, Step


@dataclass(slots=True)
class Bill:
    """What was taken: cards that were empty before, and parts of cards that others use too."""

    opened: int = 0
    shared: float = 0.0

    def add(self, other: "Bill", times: int = 1) -> None:
        """Count another bill."""
        self.opened += other.opened * times
        self.shared += other.shared * times


@dataclass(slots=True)
class Shelf:
    """Nodes by what is free on them, and how that came to be."""

    kind: Kind
    nodes: dict[NodeSpace, int]
    bill: Bill = field(default_factory=Bill)
    steps: list[Step] = field(default_factory=list)

    def saved(self) -> tuple[dict[NodeSpace, int], Bill, int]:
        """What `restore` needs to undo everything from now on."""
        return dict(self.nodes), replace(self.bill), len(self.steps)

    def restore(self, saved: tuple[dict[NodeSpace, int], Bill, int]) -> None:
        """Undo what was placed since."""
        self.nodes, self.bill = dict(saved[0]), replace(saved[1])
        del self.steps[saved[2] :]

    def add_blocks(self, block: Block, want: int) -> int:
        """Put up to `want` blocks onto cards with exactly their free space; how many found a place.

        Nodes with the fewest such cards come first, each filled up.
        """
        left, size, held = want, len(block.takes), block.space.held
        while left:
            found = self._fewest(block.space, size, block.demand)
            if found is None:
                break
            node, each = found
            nodes = min(self.nodes[node], max(1, left // each))
            each = min(each, left)
            self.steps.append(Step(node, nodes, each, block))
            self._move(node, with_blocks(node, block, each), nodes)
            left -= nodes * each
            opened = size if held is Held.EMPTY else 0
            self.bill.add(Bill(opened, block.share if held is Held.SHARED else 0.0), nodes * each)
        return want - left

    def _fewest(self, space: Space, size: int, demand: tuple[int, int]) -> tuple[NodeSpace, int] | None:
        best: tuple[int, NodeSpace, int] | None = None
        for node in self.nodes:
            many = node.cards.count(space) // size
            for free, wanted in ((node.cpu_milli, demand[0]), (node.memory_mib, demand[1])):
                if wanted:
                    many = min(many, free // wanted)
            if many > 0:
                rank = (node.cards.count(space), node, many)
                if best is None or rank < best:
                    best = rank
        return best[1:] if best else None

    def add_pods(self, demand: Demand, fit: Fit, want: int) -> int:
        """Put up to `want` pods where each opens the fewest cards and leaves the least; how many found a place."""
        left = want
        while left:
            best: tuple[tuple[int, int, int], NodeSpace, NodeSpace, Bill] | None = None
            for node in self.nodes:
                found = place_pod(self.kind, node, demand, fit)
                if found is None:
                    continue
                after, bill = found
                empty = after.cards.count(self.kind.empty)
                rank = (bill.opened, empty, sum(card.memory_mib for card in after.cards))
                if best is None or rank < best[0]:
                    best = (rank, node, after, bill)
            if best is None:
                break
            left -= self._fill_alike(demand, fit, best[1], left)
        return want - left

    def _fill_alike(self, demand: Demand, fit: Fit, node: NodeSpace, want: int) -> int:
        """As many pods as fit onto nodes such as this one, node by node; one node gets what is left of them."""
        after, bill, each = node, Bill(), 0
        while each < want and (found := place_pod(self.kind, after, demand, fit)) is not None:
            after, one = found
            bill.add(one)
            each += 1
        nodes = min(self.nodes[node], want // each)
        self.steps.append(Step(node, nodes, each, (demand, fit)))
        self._move(node, after, nodes)
        self.bill.add(bill, nodes)
        return nodes * each

    def _move(self, before: NodeSpace, after: NodeSpace, count: int) -> None:
        left = self.nodes[before] - count
        if left:
            self.nodes[before] = left
        else:
            del self.nodes[before]
        self.nodes[after] = self.nodes.get(after, 0) + count

    def stranded(self, pieces: Iterable[Piece]) -> float:
        """Cards' worth of free space, on cards in use, that takes none of the pieces."""
        wanted = tuple(pieces)
        known: dict[Space, float] = {}
        found = 0.0
        for node, count in self.nodes.items():
            for space in node.cards:
                if space.held is not Held.EMPTY:
                    if space not in known:
                        known[space] = self._stranded_on(space, wanted)
                    found += count * known[space]
        return found

    def _stranded_on(self, space: Space, pieces: tuple[Piece, ...]) -> float:
        if any(takes_piece(self.kind, space, piece) for piece in pieces):
            return 0.0
        return min(max(space.memory_mib, 0) / self.kind.memory_mib, max(space.cores, 0) / self.kind.cores)


def takes_piece(kind: Kind, space: Space, piece: Piece) -> bool:
    """Whether a slice fits into a card's free space."""
    if piece.alone:
        return space == kind.empty and piece.memory_mib <= space.memory_mib
    return piece.memory_mib <= space.memory_mib and piece.cores <= space.cores and space.slots > 0


def taken_by(space: Space, piece: Piece, times: int = 1) -> Slot:
    """What slices take of a card."""
    return piece.memory_mib * times, (space.cores if piece.alone else piece.cores * times), times


def left_of(space: Space, takes: Slot) -> Space:
    """A card's free space after something was taken of it."""
    held = Held.PAID if space.held is Held.EMPTY else space.held
    return Space(space.memory_mib - takes[0], space.cores - takes[1], space.slots - takes[2], held)


def place_pod(kind: Kind, node: NodeSpace, demand: Demand, fit: Fit) -> tuple[NodeSpace, Bill] | None:
    """The node with one more pod, on the fullest cards that take its slices, and what that costs."""
    found = seat_pod(kind, node, demand, fit)
    if found is None:
        return None
    cards, _, bill = found
    left = node.cpu_milli - demand.cpu_milli, node.memory_mib - demand.memory_mib
    apart = tuple(sorted({*node.apart, *demand.apart})) if demand.apart else node.apart
    return NodeSpace(node.kind, tuple(sorted(cards)), *left, apart), bill


def seat_pod(kind: Kind, node: NodeSpace, demand: Demand, fit: Fit) -> tuple[list[Space], set[int], Bill] | None:
    """The node's cards in their order once a pod is there, those that it takes by position, and what that costs."""
    if demand.cpu_milli > node.cpu_milli or demand.memory_mib > node.memory_mib or demand.name in node.apart:
        return None
    cards, taken, bill = list(node.cards), set[int](), Bill()
    for piece in sorted(fit.pieces, key=lambda piece: (not piece.alone, -piece.cards, -piece.memory_mib)):
        order = [i for i, space in enumerate(cards) if takes_piece(kind, space, piece)]
        if len(order) < piece.cards:
            return None
        order.sort(key=lambda i: (cards[i].held is Held.EMPTY, cards[i].memory_mib, cards[i].cores))
        for i in order[: piece.cards]:
            if cards[i].held is Held.EMPTY:
                bill.opened += 1
            elif cards[i].held is Held.SHARED:
                bill.shared += piece.share(kind)
            cards[i] = left_of(cards[i], taken_by(cards[i], piece))
            taken.add(i)
    return cards, taken, bill


def with_blocks(node: NodeSpace, block: Block, times: int) -> NodeSpace:
    """The node with further blocks."""
    cards = list(node.cards)
    for _ in range(times):
        seat_block(cards, block)
    left = node.cpu_milli - block.demand[0] * times, node.memory_mib - block.demand[1] * times
    return NodeSpace(node.kind, tuple(sorted(cards)), *left, node.apart)


def seat_block(cards: list[Space], block: Block) -> list[int]:
    """Put one block onto a node's cards; which ones it takes, by position."""
    taken = []
    for amount in block.takes:
        i = cards.index(block.space)
        cards[i] = left_of(block.space, amount)
        taken.append(i)
    return taken
