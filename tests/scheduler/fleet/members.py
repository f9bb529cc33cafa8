"""One cluster's scheduler in memory, as the manager sees it and as a kube-scheduler asks it."""

import copy
from typing import Any

from kerf.testing.builders import a_node, cards_of
from kerf.values.fleet import ClusterSpec
from kerf.values.grant import Grant
from kerf.values.policy import SchedulingPolicy
from kerf.values.supply import Supply
from kerf.vendors.registry import VENDORS
from scheduler.fleet.shapes import Terms
from scheduler.fleet.view import View
from scheduler.placing.fleet_places import FleetPlaces
from scheduler.state.store import Store
from tests.scheduler.fleet.sixty import FLEETS, MIB, PRICES, price_of

NAMES = tuple(vendor.words for vendor in VENDORS)
TERMS = Terms(NAMES, SchedulingPolicy(), PRICES)


class Member:
    """One cluster's scheduler, and a kube-scheduler that asks about a pod while others are still being bound."""

    def __init__(self, name: str) -> None:
        region, supply, nodes = FLEETS[name]
        self.spec = ClusterSpec(name, Supply(supply), region)
        self.store = Store(SchedulingPolicy(), VENDORS)
        self.models: dict[str, str] = {}
        for i, (model, count) in enumerate(nodes):
            cards = cards_of(f"{name}-{i}", count, model=model, memory_mib=MIB[model])
            self.models |= {card.id: model for card in cards}
            self.store.feed.apply_node("ADDED", a_node(f"{name}-{i}", cards))
        self.places = FleetPlaces(self.store)
        self.made = 0

    def view(self) -> View:
        return View(self.spec, nodes=tuple(self.store.desk.nodes()), states=self.store.desk.states())

    def pods(self, template: dict[str, Any], count: int) -> list[dict[str, Any]]:
        found = []
        for _ in range(count):
            self.made += 1
            pod = copy.deepcopy(template)
            pod["metadata"] |= {
                "name": f"p-{self.made}",
                "namespace": "default",
                "uid": f"{self.spec.name}-{self.made}",
            }
            found.append({"apiVersion": "v1", "kind": "Pod", **pod, "status": {"phase": "Pending"}})
        return found

    def ask_where(self, pod: dict[str, Any], *, seen: bool = True) -> tuple[dict[str, Any], str] | None:
        """Filter and prioritize; None where no node is offered. The watch may not have shown the pod yet."""
        desk = self.store.desk
        if seen:
            self.store.feed.apply_pod("ADDED", pod)
        ask, _ = desk.read(pod)
        found = desk.where(ask, desk.node_names())
        names = list(found.fits)
        if not names:
            return None
        return pod, names[int(desk.order(ask, names).argmax())]

    def bind(self, pod: dict[str, Any], node: str) -> bool:
        ask, stages = self.store.desk.read(pod)
        return isinstance(self.store.desk.assume(ask, node, stages), Grant)

    def cost(self) -> float:
        """What an hour of the cards costs on which anything is held."""
        held = {card for b in self.store.ledger.bookings() for card in b.uses}
        return sum(price_of(self.models[card], self.spec.name) for card in held)
