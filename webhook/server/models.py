"""The cluster's own rows of the model catalogue, followed: each change is handed on as values."""

import json
import logging
from collections.abc import Callable

from kerf.kube.client import Json, Kube
from kerf.kube.watch import Follower
from kerf.sizing.catalogue import Row, parse_row
from kerf.wire.errors import WireError
from kerf.wire.json import at

log = logging.getLogger("webhook")
LABEL = "kerf.dev/catalogue=true"


class ModelFollower:
    """Follows the ConfigMaps with the label of the catalogue in one namespace; each key `*.json` is a row.

    A row that cannot be read keeps what it said before, so that a broken edit takes no model away.
    """

    def __init__(self, kube: Kube, namespace: str, changed: Callable[[tuple[Row, ...]], None]) -> None:
        self._changed = changed
        self._rows: dict[str, dict[str, Row]] = {}
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._follower = Follower(kube, path, self._replace, self._change, query={"labelSelector": LABEL})

    @property
    def synced(self) -> bool:
        """Whether the first list was handed on."""
        return self._follower.synced.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._follower.start()

    def stop(self) -> None:
        """End as soon as the current wait ends."""
        self._follower.stop()

    def _replace(self, items: list[Json]) -> None:
        before = self._rows
        self._rows = {name: self._read(item, before.get(name, {})) for item in items if (name := _name(item))}
        self._hand_on()

    def _change(self, kind: str, item: Json) -> None:
        name = _name(item)
        if kind == "DELETED":
            self._rows.pop(name, None)
        else:
            self._rows[name] = self._read(item, self._rows.get(name, {}))
        self._hand_on()

    def _hand_on(self) -> None:
        self._changed(tuple(row for _, rows in sorted(self._rows.items()) for row in rows.values()))

    def _read(self, item: Json, before: dict[str, Row]) -> dict[str, Row]:
        found = {}
        for key, text in sorted(at(item, "data").items()):
            if not key.endswith(".json"):
                continue
            try:
                found[key] = parse_row(json.loads(text), key)
            except (WireError, ValueError, TypeError, RecursionError) as error:
                log.warning("ConfigMap %s: %s: %s", _name(item), key, error)
                if key in before:
                    found[key] = before[key]
        return found


def _name(item: Json) -> str:
    return str(at(item, "metadata").get("name", ""))
