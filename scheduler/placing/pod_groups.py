"""Gang sizes from the cluster's PodGroups, for pods that name a group without its size."""

from collections.abc import Mapping
from typing import Any

from kerf.wire.json import at
from scheduler.state.store import Store

POD_GROUPS = "/apis/scheduling.x-k8s.io/v1alpha1/podgroups"


def group_size(item: Mapping[str, Any]) -> tuple[str, int] | None:
    """`namespace/name` and the least number of pods of a scheduler-plugins PodGroup."""
    meta, spec = at(item, "metadata"), at(item, "spec")
    least = spec.get("minMember")
    if not isinstance(least, int) or not meta.get("name"):
        return None
    return f"{meta.get('namespace') or 'default'}/{meta['name']}", least


class PodGroups:
    """Feeds the sizes of PodGroup objects to the store."""

    def __init__(self, store: Store) -> None:
        self._feed = store.feed

    def replace(self, items: list[dict[str, Any]]) -> None:
        """The whole list."""
        found = [group for item in items if (group := group_size(item)) is not None]
        self._feed.set_gang_sizes(dict(found))

    def change(self, kind: str, item: dict[str, Any]) -> None:
        """One event."""
        group = group_size(item)
        if group is not None:
            self._feed.set_gang_size(group[0], 0 if kind == "DELETED" else group[1])
