"""The slots that one resource offers to the kubelet: those of the node's cards, less what sick cards take away."""

import threading

import grpc

from deviceplugin.core.slots import Resource, Slot, slots_of, withdraw
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.state.node import LocalNode
from kerf.values.allocator import Allocator
from kerf.values.device import Card

HELD_S = 2.0
"""Seconds that the kubelet may take to list the slots in use."""


class Offer:
    """Derives slots from cards. A slot that is in use stays healthy; see `core.slots.withdraw`."""

    def __init__(self, resource: Resource, node: LocalNode, resources: PodResources) -> None:
        self._resource = resource
        self._node = node
        self._resources = resources
        self._lock = threading.Lock()
        self._version = -1
        self._withdrawn: frozenset[str] = frozenset()

    def wait(self, version: int, timeout_s: float) -> int:
        """The node's current version; see `LocalNode.wait`."""
        return self._node.wait(version, timeout_s)

    def slots(self) -> tuple[Slot, ...]:
        """The slots as the kubelet should see them. They change with the cards only."""
        with self._lock:
            version = self._node.wait(self._version, 0.0)
            cards = self._node.cards
            if version != self._version:
                held = frozenset[str]() if all(_gives(card) for card in cards) else self._held()
                self._withdrawn = withdraw(self._resource, cards, held, self._withdrawn)
                self._version = version
            return slots_of(self._resource, cards, self._withdrawn)

    def _held(self) -> frozenset[str]:
        try:
            listed = [entry.slots for entry in self._resources.held(HELD_S)]
        except grpc.RpcError:
            listed = []
        lent = [entry.slots for entry in self._resources.recorded() or ()]
        return frozenset(slot for slots in (*listed, *lent) for slot in slots)


def _gives(card: Card) -> bool:
    return card.healthy and card.allocator is Allocator.EXTENDER
