"""LeaderWorkerSets whose workers are made once their leader is ready: their groups are no gangs.

The webhook writes that into their templates. Sets that were made before it did are known from the objects alone: a
leader that waited for its workers would wait for ever.
"""

from collections.abc import Mapping
from typing import Any

from kerf.wire.gangs import groups_of_set, starts_leader_first
from scheduler.state.store import Store

LEADER_WORKER_SETS = "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"


class LeaderWorkerSets:
    """Feeds the store those sets."""

    def __init__(self, store: Store) -> None:
        self._feed = store.feed
        self._known: set[str] = set()

    def replace(self, items: list[dict[str, Any]]) -> None:
        """The whole list."""
        found = {groups_of_set(item) for item in items if starts_leader_first(item)}
        for gone in self._known - found:
            self._set(gone, apart=False)
        for fresh in found - self._known:
            self._set(fresh, apart=True)

    def change(self, kind: str, item: Mapping[str, Any]) -> None:
        """One event."""
        groups, apart = groups_of_set(item), kind != "DELETED" and starts_leader_first(item)
        if apart != (groups in self._known):
            self._set(groups, apart=apart)

    def _set(self, groups: str, *, apart: bool) -> None:
        (self._known.add if apart else self._known.discard)(groups)
        self._feed.set_one_by_one(groups, apart=apart)
