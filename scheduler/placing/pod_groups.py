"""Gang sizes from the cluster's PodGroups, for pods that name a group without its size."""

from collections.abc import Mapping
from typing import Any

from kerf.wire.json import at
from scheduler.state.store import Store

POD_GROUPS = ("/apis/scheduling.x-k8s.io/v1alpha1/podgroups", "/apis/scheduling.volcano.sh/v1beta1/podgroups")
"""The Coscheduling plugin's and Volcano's."""


def group_size(item: Mapping[str, Any]) -> tuple[str, int] | None:
    """`namespace/name` and the least number of pods of a PodGroup."""
    meta, spec = at(item, "metadata"), at(item, "spec")
    least = spec.get("minMember")
    if not isinstance(least, int) or not meta.get("name"):
        return None
    return f"{meta.get('namespace') or 'default'}/{meta['name']}", least


class PodGroups:
    """Feeds the sizes of one kind of PodGroup objects to the store."""

    def __init__(self, store: Store) -> None:
        self._feed = store.feed
        self._known: set[str] = set()

    def replace(self, items: list[dict[str, Any]]) -> None:
        """The whole list."""
        found = dict(group for item in items if (group := group_size(item)) is not None)
        for gone in self._known - found.keys():
            self._feed.set_gang_size(gone, 0)
        for gang, size in found.items():
            self._feed.set_gang_size(gang, size)
        self._known = set(found)

    def change(self, kind: str, item: dict[str, Any]) -> None:
        """One event."""
        group = group_size(item)
        if group is not None:
            self._known.add(group[0])
            self._feed.set_gang_size(group[0], 0 if kind == "DELETED" else group[1])
