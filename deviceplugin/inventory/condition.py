"""The node's condition `KerfCardsHealthy`: False while a card has a fault that only a reset or a repair ends.

Kubernetes' own tools, and remedies that watch nodes, understand conditions. What is not fatal is an Event.
"""

import logging
import time
from datetime import UTC, datetime

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.values.device import Card
from kerf.values.health import State
from kerf.wire.json import Json, items_at

_LOG = logging.getLogger("kerf.deviceplugin.condition")
TYPE = "KerfCardsHealthy"
MANAGER = "kerf-deviceplugin-cards"
_MOST_NAMED = 8
PAUSE_S = 10.0
"""Before the condition is written again after a refusal; the inventory, which decides, does not wait for it."""


class Condition:
    """Writes the condition when it changes. A node whose cards were never ill has none."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube = kube
        self._node = node
        self._written: tuple[str, str] | None = None
        self._not_before = float("-inf")

    def see(self, status: Json) -> None:
        """What the node says now."""
        found = next((item for item in items_at(status, "conditions") if item.get("type") == TYPE), None)
        self._written = (str(found.get("status")), str(found.get("message"))) if found else None

    def keep(self, cards: tuple[Card, ...]) -> None:
        """Write what the cards say, if it differs. Never raises."""
        status, reason, message = condition_of(cards)
        if (status, message) == self._written or (status == "True" and self._written is None):
            return
        if time.monotonic() < self._not_before:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        turned = self._written is None or self._written[0] != status
        condition = {"type": TYPE, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now}
        if turned:
            condition["lastTransitionTime"] = now
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._node},
            "status": {"conditions": [condition]},
        }
        query = {"fieldManager": MANAGER, "force": "true"}
        try:
            self._kube.patch(f"{paths.node(self._node)}/status", body, kind="apply", query=query)
        except KubeError as error:
            _LOG.warning("the condition %s is not written: %s", TYPE, error)
            self._not_before = time.monotonic() + PAUSE_S
            return
        self._written = (status, message)


def condition_of(cards: tuple[Card, ...]) -> tuple[str, str, str]:
    """Status, reason and message for these cards."""
    broken = [card for card in cards if card.health.state is State.CORDONED]
    if not broken:
        return "True", "CardsHealthy", "no card needs a reset or a repair"
    named = "; ".join(f"card {card.index} ({card.id}): {card.health.cause}" for card in broken[:_MOST_NAMED])
    more = f"; and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
    return "False", "CardFault", named + more
