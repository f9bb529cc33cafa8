"""The circuit breaker: where much of a pool fails at once, the cards are hardly the cause, and moving tenants harms.

A driver that is upgraded, a power feed, a wrong table of codes: all of them look like failing cards. Everything here
follows from the nodes' annotations, so that every replica comes to the same answer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kerf.values.health import State
from kerf.values.node import Node
from kerf.values.recovery import BreakerSettings

LEAST_NODES, LEAST_CARDS = 2, 4
"""So much has to fail at least, whatever the share: the only card of the only node is one card."""
UPGRADE_STATE = "nvidia.com/gpu-driver-upgrade-state"
"""Label of NVIDIA's GPU operator."""
_NO_UPGRADE = frozenset({"", "upgrade-done", "unknown"})


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing of a pool is evicted, and until when, as things are."""

    why: str
    until: float


def driver_upgrade(node: Node) -> bool:
    """Whether the node's driver is being replaced."""
    return dict(node.labels).get(UPGRADE_STATE, "") not in _NO_UPGRADE


def pause_of(nodes: Sequence[Node], settings: BreakerSettings, now: float) -> Pause | None:
    """The pause of a pool with these nodes; None where evictions may go on."""
    faults = sorted(_faults(nodes))
    window = _largest(faults, nodes, settings)
    if window is None:
        return None
    until = faults[-1][0] + settings.quiet_s
    return Pause(window, until) if now < until else None


def _faults(nodes: Iterable[Node]) -> list[tuple[int, str, str]]:
    """When, on which node and of which card each fault is that counts."""
    return [
        (card.health.since, node.name, card.id)
        for node in nodes
        for card in node.cards
        if card.health.state is State.CORDONED and card.health.since > node.resumed
    ]


def _largest(faults: list[tuple[int, str, str]], nodes: Sequence[Node], settings: BreakerSettings) -> str | None:
    """In words, the first window in which too much failed; None if there is none."""
    all_cards, all_nodes = sum(len(node.cards) for node in nodes), sum(1 for node in nodes if node.cards)
    start, on_node = 0, Counter[str]()
    for end, (at, node, _) in enumerate(faults):
        on_node[node] += 1
        while at - faults[start][0] > settings.window_s:
            on_node[faults[start][1]] -= 1
            start += 1
        cards, several = end - start + 1, sum(1 for count in on_node.values() if count)
        share = cards * 100 >= settings.percent * all_cards or several * 100 >= settings.percent * all_nodes
        if share and (several >= LEAST_NODES or cards >= LEAST_CARDS):
            return (
                f"{cards} of {all_cards} cards on {several} of {all_nodes} nodes failed within "
                f"{settings.window_s:.0f} seconds"
            )
    return None
