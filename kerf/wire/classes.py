"""`class.kerf.dev/<slug>` on nodes: the classes of cards a node has, for ResourceFlavors and node selectors."""

from collections.abc import Iterable, Mapping
from typing import Any

from kerf.values.device import Card
from kerf.values.quota import class_of

PREFIX = "class.kerf.dev/"
PRESENT = "true"


def class_label(slug: str) -> str:
    """The label's key."""
    return f"{PREFIX}{slug}"


def class_labels(cards: Iterable[Card]) -> dict[str, str]:
    """What a node with these cards should be labelled, healthy or not: a sick card is still of its class."""
    return {class_label(class_of(card).slug): PRESENT for card in cards}


def selected_classes(selector: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that a pod's `nodeSelector` names: on a node of mixed cards it gets cards of these alone."""
    return tuple(
        sorted(
            key.removeprefix(PREFIX) for key, value in selector.items() if key.startswith(PREFIX) and value == PRESENT
        )
    )
