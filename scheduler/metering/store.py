"""TenantUsage objects: read when a term begins, written as use is counted, deleted when they are old."""

import logging
from collections.abc import Iterable

from kerf.kube.client import Kube
from kerf.kube.errors import NotFound
from kerf.values.usage import HOUR_MS, UsageRecord
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.usage import DAY, PATH, day_text, parse_usage, path_of, render_usage

_LOG = logging.getLogger("kerf.metering")
DAY_MS = 24 * HOUR_MS
BACK_DAYS = 8
"""How far back a new leader looks for where the last one stopped."""
FIELD_MANAGER = "kerf-metering"


class Records:
    """The stored records. Every method raises KubeError."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._written: dict[str, UsageRecord] = {}

    def recent(self, now_ms: int) -> list[UsageRecord]:
        """The records of the last days."""
        days = ",".join(day_text(now_ms - day * DAY_MS) for day in range(-1, BACK_DAYS))
        items, _ = self._kube.list(PATH, {"labelSelector": f"{DAY} in ({days})"})
        found = []
        for item in items:
            name = at(item, "metadata").get("name")
            try:
                record = parse_usage(item)
            except WireError as error:
                _LOG.warning("TenantUsage %s is left out: %s", name, error)
                continue
            if record.name == name:
                found.append(record)
            else:
                _LOG.warning("TenantUsage %s is left out: it is a copy of %s", name, record.name)
        return found

    def write(self, records: Iterable[UsageRecord]) -> int:
        """Store what has changed, in the order given; how many.

        What fails ends the round. The cards' record of an hour comes after its owners', so whatever is not stored is
        counted again by the next leader from where it was.
        """
        count = 0
        for record in records:
            if self._written.get(record.name) == record:
                continue
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            self._kube.patch(path_of(record.name), render_usage(record), "apply", query)
            self._written[record.name] = record
            count += 1
        return count

    def forget(self, names: Iterable[str]) -> None:
        """These are closed and never written again."""
        for name in names:
            self._written.pop(name, None)

    def delete_old(self, now_ms: int, retention_days: int) -> int:
        """Delete the records of the days before the retention; how many."""
        oldest = int(day_text(now_ms - retention_days * DAY_MS))
        items, _ = self._kube.list(PATH, {"labelSelector": DAY})
        old = [item["metadata"]["name"] for item in items if _day(item) < oldest]
        for name in old:
            try:
                self._kube.delete(path_of(name))
            except NotFound:
                continue
        return len(old)


def _day(item: object) -> int:
    text = str(at(item, "metadata", "labels").get(DAY, ""))
    return int(text) if text.isascii() and text.isdigit() else 10**8
