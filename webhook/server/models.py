"""Models of the cluster's own: rows of the catalogue, in ConfigMaps with a label, and what was learned of models."""

import json
import logging
from collections.abc import Callable, Mapping

from kerf.kube.client import Json, Kube
from kerf.sizing.catalogue import Row, parse_row
from kerf.values.learned import Learned
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.learned import LABEL as LEARNED
from kerf.wire.learned import learned_in
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


def follow_learned(kube: Kube, namespace: str, changed: Callable[[tuple[Learned, ...]], None]) -> Followed[Learned]:
    """Follow what was learned of models."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return Followed(kube, path, _learned, changed, query={"labelSelector": f"{LEARNED}=true"})


def _learned(item: Json, before: Learned | None) -> Learned:
    """What cannot be read leaves what was known."""
    try:
        return learned_in(item)
    except WireError as error:
        log.warning("ConfigMap %s: %s", name_of(item), error)
        return before or Learned()
