"""The node's inventory in its annotations: written when the cards change, and when another writer changed it.

A pod that arrives while no plugin is registered fails for good at the kubelet. Therefore a vendor's cards are offered
only once the kubelet watches their slots, and are published as suspect before the plugin stops serving them.

Each vendor has its own annotation. A publisher reads and writes those of its vendors only, so that the plugins of two
vendors on one node do not overwrite each other.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from deviceplugin.inventory.condition import Condition
from deviceplugin.inventory.earlier import STOPPED
from deviceplugin.metrics import PluginMetrics
from deviceplugin.state.node import LocalNode
from kerf.kube import paths
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.kube.watch import Follower
from kerf.obs.loop import Loop, run_every
from kerf.values.device import Card
from kerf.values.health import Health, State
from kerf.values.vendor import Vendor
from kerf.wire.inventory import render_inventory
from kerf.wire.json import at, version_of
from kerf.wire.objects import cordoned_cards

_LOG = logging.getLogger("kerf.deviceplugin.publisher")
LOOK_S = 0.2
PLENTY = str(2**31 - 1)
BETWEEN_S = 0.2
"""Least time between two writes, which bounds how fast two publishers of one vendor can overwrite each other."""


class Publisher:
    """Keeps the inventories of `vendors` on one node equal to its cards, each once `ready` is true for its vendor."""

    def __init__(
        self,
        kube: Kube,
        node: LocalNode,
        vendors: tuple[Vendor, ...],
        ready: Callable[[Vendor], bool],
        metrics: PluginMetrics,
        earlier: Callable[[dict[str, str]], None],
    ) -> None:
        self._kube = kube
        self._node = node
        self._vendors = vendors
        self._ready = ready
        self._metrics = metrics
        self._earlier: Callable[[dict[str, str]], None] | None = earlier
        """Gets the node's annotations once, before anything is written into them."""
        self._condition = Condition(kube, node.name)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._offered: set[str] = set()
        self._published: dict[str, str] = {}
        self._written = 0
        self._allocatable: frozenset[str] = frozenset()
        query = {"fieldSelector": f"metadata.name={node.name}"}
        self._follower = Follower(kube, paths.NODES, self._replace, self._change, query=query)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`, then withdraw the offer; never raises."""
        self._follower.start()
        threading.Thread(target=self._node.wake, args=(self._wake, stop), name="publish", daemon=True).start()
        loop = Loop("deviceplugin.publisher", every_s=LOOK_S, rest_s=BETWEEN_S, expected=(KubeError,))
        run_every(loop, self._run_once, stop, self._wake)
        self._follower.stop()
        self._withdraw()

    def current(self) -> bool:
        """Whether the API server has the inventories of what is offered as the cards are now."""
        cards = self._node.cards
        with self._lock:
            texts = {v.inventory_key: render_inventory(_of(v, cards)) for v in self._vendors if v.name in self._offered}
            return bool(texts) and all(self._published.get(key) == text for key, text in texts.items())

    def _run_once(self) -> None:
        self._offered |= {vendor.name for vendor in self._vendors if self._ready(vendor)}
        if self._follower.synced.is_set():
            self._advertise()
            self._publish()
            self._condition.keep(tuple(card for v in self._vendors for card in _of(v, self._node.cards)))

    def _publish(self) -> None:
        cards = self._node.cards
        texts = {v.inventory_key: render_inventory(_of(v, cards)) for v in self._vendors if v.name in self._offered}
        changed = {key: text for key, text in texts.items() if text != self._published.get(key)}
        if not changed:
            return
        node = self._kube.patch(paths.node(self._node.name), {"metadata": {"annotations": changed}})
        with self._lock:
            self._published = {**self._published, **changed}
            self._written = version_of(node)
        self._metrics.publications.inc()
        _LOG.info("published %d cards", len(cards))

    def _advertise(self) -> None:
        """Give the node an endless amount of the resources that only Kerf understands.

        kube-scheduler's filters ignore them, its queueing hints do not (seen in 1.36): without this, no node event
        would wake a pod with `gpumem` that waits for CPU or a slot, because an empty node still seems to lack `gpumem`.
        """
        names = {name for v in self._vendors if v.name in self._offered for name in v.words.ignored}
        if names <= self._allocatable:
            return
        amounts = dict.fromkeys(sorted(names), PLENTY)
        path = f"{paths.node(self._node.name)}/status"
        self._kube.patch(path, {"status": {"capacity": amounts, "allocatable": amounts}})
        self._allocatable |= names

    def _withdraw(self) -> None:
        """Publish the cards as suspect, so that no new pod comes here. Covers an offer of an earlier run too."""
        cards = tuple(_withdrawn(card, int(time.time())) for card in self._node.cards)
        texts = {v.inventory_key: render_inventory(_of(v, cards)) for v in self._vendors}
        offers = {key: text for key, text in texts.items() if self._published.get(key)}
        if not offers:
            return
        try:
            self._kube.patch(paths.node(self._node.name), {"metadata": {"annotations": offers}})
        except KubeError as error:
            _LOG.warning("cannot withdraw the offer of this node's cards: %s", error)

    def _replace(self, nodes: list[Json]) -> None:
        for node in nodes:
            self._change("MODIFIED", node)

    def _change(self, kind: str, node: Json) -> None:
        meta = at(node, "metadata")
        if meta.get("name") != self._node.name or kind == "DELETED":
            return
        self._node.update_labels(dict(at(meta, "labels")))
        self._node.update_node(str(meta.get("uid") or ""), cordoned_cards(at(meta, "annotations")))
        self._allocatable = frozenset(at(node, "status", "allocatable"))
        notes = at(meta, "annotations")
        self._condition.see(at(node, "status"))
        if self._earlier is not None:
            self._earlier({key: str(value) for key, value in notes.items()})
            self._earlier = None
        with self._lock:
            if version_of(node) >= self._written:  # an older event would make us write the same text again
                keys = (vendor.inventory_key for vendor in self._vendors)
                self._published = {key: str(notes[key]) for key in keys if key in notes}
        self._wake.set()


def _withdrawn(card: Card, now: int) -> Card:
    """The card as suspect; one that takes no slices stays as it is, so that no fault is forgotten."""
    if not card.healthy:
        return card
    return replace(card, health=Health(State.SUSPECT, STOPPED, now, falls=card.health.falls))


def _of(vendor: Vendor, cards: tuple[Card, ...]) -> tuple[Card, ...]:
    return tuple(card for card in cards if card.vendor == vendor.name)
