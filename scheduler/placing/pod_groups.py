"""What the cluster's PodGroups say of gang sizes, for pods that name a group without its size."""

from collections.abc import Mapping
from typing import Any

from scheduler.state.store import Store

POD_GROUPS = "/apis/scheduling.x-k8s.io/v1alpha1/podgroups"


def group_size(item: Mapping[str, Any]) -> tuple[str, int] | None:
    """`namespace/name` and the least number of pods of a scheduler-plugins PodGroup."""
    meta, spec = item.get("metadata") or {}, item.get("spec") or {}
    least = spec.get("minMember")
    if not isinstance(least, int) or not meta.get("name"):
        return None
    return f"{meta.get('namespace') or 'default'}/{meta['name']}", least


class PodGroups:
    """Keeps the store's gang sizes true to the PodGroup objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def replace(self, items: list[dict[str, Any]]) -> None:
        """The whole list."""
        found = [group for item in items if (group := group_size(item)) is not None]
        self._store.pending.set_gang_sizes(dict(found))

    def change(self, kind: str, item: dict[str, Any]) -> None:
        """One event."""
        group = group_size(item)
        if group is not None:
            self._store.pending.set_gang_size(group[0], 0 if kind == "DELETED" else group[1])
