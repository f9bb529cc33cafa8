"""Records of Allocate calls, for runtimes without CDI only: which container got which slots."""

import json
import logging
from dataclasses import dataclass

from deviceplugin.state.files import Files

_LOG = logging.getLogger("kerf.deviceplugin.allocations")


@dataclass(frozen=True, slots=True)
class Allocation:
    """The pod and the containers that one set of slots was allocated to."""

    uid: str
    containers: tuple[str, ...]
    vendor: str = ""
    """"" in records of versions that served one vendor only."""


class Allocations:
    """Records by the stem of their slots. A damaged record counts as none."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, stem: str, allocation: Allocation) -> None:
        """Record an allocation."""
        record = {"uid": allocation.uid, "containers": list(allocation.containers), "vendor": allocation.vendor}
        self._files.write_allocated(stem, json.dumps(record))

    def remove_except(self, live: frozenset[str]) -> int:
        """Remove the records of pods that are not `live`, and damaged ones; how many."""
        kept = {stem for stem, allocation in self.by_stem().items() if allocation.uid in live}
        gone = self._files.allocated().keys() - kept
        for stem in gone:
            self._files.drop_allocated(stem)
        return len(gone)

    def by_stem(self) -> dict[str, Allocation]:
        """All records."""
        found = {}
        for name, text in self._files.allocated().items():
            try:
                record = json.loads(text)
                found[name] = Allocation(str(record["uid"]), tuple(record["containers"]), str(record.get("vendor", "")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                _LOG.warning("the record of slots %s is damaged: %s", name, error)
        return found
