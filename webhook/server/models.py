"""The cluster's own rows of the model catalogue: ConfigMaps with a label, each key `*.json` a row."""

import json
import logging
from collections.abc import Callable, Mapping

from kerf.kube.client import Json, Kube
from kerf.sizing.catalogue import Row, parse_row
from kerf.wire.errors import WireError
from kerf.wire.json import at
from webhook.server.followed import Followed, name_of

log = logging.getLogger("webhook")
LABEL = "kerf.dev/catalogue=true"
Rows = Mapping[str, Row]
"""The rows of one ConfigMap by key."""


def follow_models(kube: Kube, namespace: str, changed: Callable[[tuple[Row, ...]], None]) -> Followed[Rows]:
    """Follow the rows of one namespace."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    def hand_on(maps: tuple[Rows, ...]) -> None:
        changed(tuple(row for rows in maps for row in rows.values()))

    return Followed(kube, path, _read, hand_on, query={"labelSelector": LABEL})


def _read(item: Json, before: Rows | None) -> Rows:
    """A row that cannot be read keeps what it said before, so that a broken edit takes no model away."""
    found = {}
    for key, text in sorted(at(item, "data").items()):
        if not key.endswith(".json"):
            continue
        try:
            found[key] = parse_row(json.loads(text), key)
        except (WireError, ValueError, TypeError, RecursionError) as error:
            log.warning("ConfigMap %s: %s: %s", name_of(item), key, error)
            if before and key in before:
                found[key] = before[key]
    return found
