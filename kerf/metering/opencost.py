"""OpenCost's arithmetic with slices: an allocation times the node's price of a GPU is what the slice costs.

OpenCost computes a container's GPU cost as `container_gpu_allocation` x hours x `node_gpu_hourly_cost`, with one price
for all cards of a node. So the price is the mean of the node's cards, and a slice of a dearer card counts for more
than its share. Where all cards of a node cost the same, an allocation is just the share: 0.25 for a quarter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from kerf.metering.use import MICRO, MeteredCard, share
from kerf.values.grant import CardUse, Grant


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod that holds cards now, as `namespace/name`."""

    pod: str
    node: str
    grant: Grant
    uses: Mapping[str, CardUse]


@dataclass(frozen=True, slots=True)
class Allocation:
    """A container's part of its node's cards, in cards of the node's mean price."""

    namespace: str
    pod: str
    container: str
    node: str
    gpus: float


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """A node's cards and the mean price of one."""

    node: str
    count: int
    per_hour: float


def node_gpus(cards: Iterable[MeteredCard]) -> tuple[NodeGpus, ...]:
    """Every node with cards, by name."""
    prices = sorted(_prices(cards).items())
    return tuple(NodeGpus(node, len(found), sum(found) / len(found) / MICRO) for node, found in prices)


def allocations(cards: Mapping[str, MeteredCard], holders: Iterable[Holder]) -> tuple[Allocation, ...]:
    """What every container holds now."""
    pods = list(holders)
    parts: dict[str, int] = defaultdict(int)
    for pod in pods:
        for card_id, use in pod.uses.items():
            if card_id in cards:
                parts[card_id] += share(use, cards[card_id].memory_mib)[0]
    means = {node: Fraction(sum(found), len(found)) for node, found in _prices(cards.values()).items()}
    return tuple(each for pod in pods for each in _of(pod, cards, parts, means))


def _prices(cards: Iterable[MeteredCard]) -> dict[str, list[int]]:
    """By node, what an hour of each card costs."""
    prices: dict[str, list[int]] = defaultdict(list)
    for card in cards:
        prices[card.node].append(card.per_hour)
    return prices


def _of(
    pod: Holder, cards: Mapping[str, MeteredCard], parts: Mapping[str, int], means: Mapping[str, Fraction]
) -> Iterable[Allocation]:
    namespace, _, name = pod.pod.partition("/")
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for card_id, use in pod.uses.items():
        card = cards.get(card_id)
        if card is None:
            continue
        part, whole = share(use, card.memory_mib)
        of_card = Fraction(part, max(whole, parts[card_id]))
        mean = means[card.node]
        worth = of_card * card.per_hour / mean if mean else of_card
        for container, piece in _containers(pod.grant, card):
            sums[container] += worth * piece
    for container, gpus in sums.items():
        yield Allocation(namespace, name, container, pod.node, float(gpus))


def _containers(grant: Grant, card: MeteredCard) -> list[tuple[str, Fraction]]:
    """The containers that hold the card, each with its part of what the pod holds of it."""
    own = []
    for container in grant.containers:
        slices = [piece for piece in container.slices if piece.card == card.id]
        if slices:
            use = CardUse(sum(s.memory_mib for s in slices), sum(s.cores for s in slices), len(slices))
            own.append((container.name, max(share(use, card.memory_mib)[0], 1)))
    total = sum(part for _, part in own)
    return [(name, Fraction(part, total)) for name, part in own]
