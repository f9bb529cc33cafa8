"""Records of a span of time: from files, or from the cluster and the cache of closed days."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.values.usage import HOUR_MS, UsageRecord, hour_of
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, text_at
from kerf.wire.usage import DAY, KIND, PATH, day_text, parse_usage
from kerfctl import cluster
from kerfctl.bill.cache import Cache
from kerfctl.documents import read_documents
from kerfctl.errors import CliError
from kerfctl.report import warn

DAY_MS = 24 * HOUR_MS
MOST_DAYS = 3700
NOT_SERVED = (
    "TenantUsage is not served: install the chart's CRDs (kubectl apply --server-side -f charts/kerf/crds) and switch "
    "metering on (metering.enabled)"
)
_NAMESPACE = "/api/v1/namespaces/kube-system"


class Records(list[UsageRecord]):
    """Records, and the days of those that could not be read."""

    def __init__(self, items: Iterable[Json] = ()) -> None:
        super().__init__()
        self.left_out: list[str] = []
        for item in items:
            try:
                self.append(parse_usage(item))
            except WireError as error:
                self.left_out.append(text_at(item, "metadata", "labels", DAY))
                warn(f"kerf: TenantUsage {at(item, 'metadata').get('name')} is left out: {error}")

    def drop_copies(self) -> None:
        """Keep one record of each hour and owner of a cluster: files may overlap, and an object may have a copy."""
        found: dict[tuple[str, str], UsageRecord] = {}
        for record in sorted(self, key=lambda record: (record.closed, record.until_ms)):
            key = (record.cluster, record.name)
            other = found.get(key)
            if other is not None and other != record and (other.closed or not record.cluster):
                self.left_out.append(day_text(record.hour_ms))
                words = f"is there twice, with other amounts, in cluster {record.cluster!r}; one is left out"
                warn(f"kerf: TenantUsage {record.name} {words}: bill each cluster alone, or name it (metering.cluster)")
            found[key] = record
        self[:] = found.values()


def records_of(args: argparse.Namespace, since_ms: int, until_ms: int) -> Records:
    """Records of every hour that begins within the span, of files or of the cluster. Raises CliError."""
    if args.file:
        found = Records(read_documents(args.file).of(KIND))
    else:
        days = [day_text(moment) for moment in _days(since_ms, until_ms)]
        found = _of_cluster(cluster.connect_to(args), args, days)
    first = hour_of(since_ms)
    found[:] = [record for record in found if first <= record.hour_ms < max(until_ms, first + 1)]
    found.drop_copies()
    return found


def _days(since_ms: int, until_ms: int) -> Iterator[int]:
    first, last = since_ms // DAY_MS, max(until_ms - 1, since_ms) // DAY_MS
    if last - first > MOST_DAYS:
        raise CliError(f"--since: {last - first} days; name at most {MOST_DAYS}")
    return (day * DAY_MS for day in range(first, last + 1))


def _of_cluster(kube: Kube, args: argparse.Namespace, days: list[str]) -> Records:
    identity = "" if args.no_cache else _identity(kube)
    cache = Cache(_cache_file(args.cache), identity) if identity else None
    try:
        missing = [day for day in days if cache is None or not cache.complete(day)]
        read = _list(kube, missing)
        fresh: dict[str, list[UsageRecord]] = {}
        for record in sorted(read, key=lambda record: record.name):
            fresh.setdefault(day_text(record.hour_ms), []).append(record)
        read.clear()
        for day in days:
            if day not in missing and cache is not None:
                read += cache.records(day)
                continue
            read += fresh.get(day, [])
            # A day of which something was left out is read again: another version may read it.
            if cache is not None and day not in read.left_out and _is_complete(fresh.get(day, []), day):
                cache.put(day, fresh[day])
        return read
    finally:
        if cache is not None:
            cache.close()


def _is_complete(records: list[UsageRecord], day: str) -> bool:
    """Whether nothing of a day will change: its last hour is there, and every hour is closed."""
    return bool(records) and records[-1].name.startswith(f"{day}23") and all(record.closed for record in records)


def _list(kube: Kube, days: list[str]) -> Records:
    if not days:
        return Records()
    items = cluster.list_or_none(kube, PATH, KIND, labelSelector=f"{DAY} in ({','.join(days)})")
    if items is None:
        raise CliError(NOT_SERVED)
    return Records(items)


def _cache_file(path: str | None) -> Path:
    if path:
        return Path(path)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "kerf" / "usage.sqlite"


def _identity(kube: Kube) -> str:
    """A name for the cluster that no other has: the uid of its kube-system namespace. Empty where it is not known."""
    try:
        return str(at(kube.get(_NAMESPACE), "metadata").get("uid") or "")
    except KubeError:
        return ""
