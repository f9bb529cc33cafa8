"""What a fleet's plan has in this cluster: the places that its manager lists become known to the store."""

import logging
from collections.abc import Mapping
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.fleet_places import parse_places
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.store")


class FleetPlaces:
    """Feeds the store the objects of that kind. One that cannot be read lists nothing."""

    def __init__(self, store: Store) -> None:
        self._feed = store.feed
        self._known: set[str] = set()

    def replace(self, items: list[dict[str, Any]]) -> None:
        """The whole list."""
        for gone in self._known - {_name(item) for item in items}:
            self._drop(gone)
        for item in items:
            self.change("MODIFIED", item)

    def change(self, kind: str, item: Mapping[str, Any]) -> None:
        """One event."""
        name = _name(item)
        if kind == "DELETED":
            return self._drop(name)
        try:
            listed = parse_places(item)
        except WireError as error:
            _LOG.warning("FleetPlaces %s: %s", name, error)
            return self._drop(name)
        self._known.add(name)
        self._feed.put_planned(name, listed)
        return None

    def _drop(self, name: str) -> None:
        self._known.discard(name)
        self._feed.drop_planned(name)


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"
