"""`kind: TenantUsage` (kerf.dev/v1alpha1): what is kept of an hour, written by the scheduler's leader."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from kerf.values.days import civil, days_of
from kerf.values.usage import (
    HOUR_MS,
    CardRow,
    CounterRow,
    TokenPrice,
    TokenRow,
    UsageRecord,
    UsageRow,
    hour_text,
)
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION, flag, list_at, object_at, whole
from kerf.wire.json import Json, at

KIND = "TenantUsage"
PATH = "/apis/kerf.dev/v1alpha1/tenantusages"
DAY = "kerf.dev/usage-day"
"""Label: the day in UTC, as 20261127, by which lists are cut."""
Row = UsageRow | CardRow | TokenRow | TokenPrice | CounterRow
R = TypeVar("R", bound=Row)
_KEYS = {
    "card_class": "class",
    "card_model": "cardModel",
    "vgpu_seconds": "vgpuSeconds",
    "mib_seconds": "mibSeconds",
    "core_seconds": "coreSeconds",
    "per_hour": "perHour",
}
"""Fields of rows whose key in the object is not their name."""
_MOST = 2**63 - 1
_MOMENT = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,20}(\.\d{1,12})?", re.ASCII)


def path_of(name: str) -> str:
    """One record."""
    return f"{PATH}/{name}"


def day_text(moment_ms: int) -> str:
    """The label of the day that holds a moment."""
    return hour_text(moment_ms)[:8]


def moment_text(moment_ms: int) -> str:
    """A moment as Kubernetes writes one, to the millisecond."""
    year, month, day = civil(moment_ms // (24 * HOUR_MS))
    rest = moment_ms % (24 * HOUR_MS)
    hours, minutes, seconds = rest // HOUR_MS, rest // 60_000 % 60, rest // 1000 % 60
    return f"{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{rest % 1000:03}Z"


def parse_moment(text: object, where: str) -> int:
    """Milliseconds since 1970 of a moment as Kubernetes writes it. Raises WireError."""
    found = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise WireError(where, text, "write a moment in UTC such as 2026-11-27T16:00:00Z")
    year, month, day, hours, minutes, seconds = (int(found[i]) for i in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hours < 24 and minutes < 60 and seconds < 61 and year >= 1970):
        raise WireError(where, text, "write a moment in UTC such as 2026-11-27T16:00:00Z")
    days = days_of(year, month, day)
    if civil(days) != (year, month, day):
        raise WireError(where, text, "write a day that the month has")
    of_day = hours * HOUR_MS + minutes * 60_000 + seconds * 1000 + int((found[7] or "").ljust(3, "0")[:3] or 0)
    return days * 24 * HOUR_MS + of_day


def render_usage(record: UsageRecord) -> dict[str, Any]:
    """The object."""
    spec: dict[str, Any] = {
        "hour": moment_text(record.hour_ms),
        "until": moment_text(record.until_ms),
        "closed": record.closed,
        "cluster": record.cluster,
        "currency": record.currency,
    }
    spec |= {"tenant": record.tenant} if record.tenant else {}
    spec |= {"namespace": record.owner_namespace} if record.owner_namespace else {}
    lists: dict[str, list[Any]] = {
        "rows": [_row_object(row) for row in record.rows],
        "tokens": [_row_object(row) for row in record.tokens],
        "cards": [_row_object(row) for row in record.cards],
        "prices": [_row_object(row) for row in record.prices],
        "counters": [_row_object(row) for row in record.counters],
        "gaps": list(record.gaps),
    }
    spec |= {key: items for key, items in lists.items() if items}
    labels = {DAY: day_text(record.hour_ms)}
    metadata = {"name": record.name, "labels": labels}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def parse_usage(item: object) -> UsageRecord:
    """A record. Unknown keys are ignored: a newer scheduler may write more. Raises WireError."""
    spec = object_at(object_at(item, KIND).get("spec"), "spec")
    gaps = list_at(spec.get("gaps"), "spec.gaps")
    return UsageRecord(
        hour_ms=parse_moment(spec.get("hour"), "spec.hour"),
        until_ms=parse_moment(spec.get("until"), "spec.until"),
        tenant=_text(spec, "tenant", "spec"),
        owner_namespace=_text(spec, "namespace", "spec"),
        cluster=_text(spec, "cluster", "spec"),
        currency=_text(spec, "currency", "spec") or "USD",
        closed=flag(spec, "closed", "spec", False),
        rows=_rows(UsageRow, spec, "rows"),
        tokens=_rows(TokenRow, spec, "tokens"),
        cards=_rows(CardRow, spec, "cards"),
        prices=_rows(TokenPrice, spec, "prices"),
        counters=_rows(CounterRow, spec, "counters"),
        gaps=tuple(str(gap) for gap in gaps if isinstance(gap, str)),
    )


def resource_version(item: Json) -> str:
    """The object's resourceVersion, by which a replace is optimistic."""
    return str(at(item, "metadata").get("resourceVersion") or "")


def _row_object(row: Row) -> dict[str, Any]:
    """The object of a row: each field under its key, exact numbers as texts."""
    found = ((field.name, getattr(row, field.name)) for field in fields(row))
    return {_KEYS.get(name, name): plain(each) if isinstance(each, Decimal) else each for name, each in found}


def _rows(kind: type[R], spec: Json, key: str) -> tuple[R, ...]:
    """The rows of a list. Raises WireError."""
    found = list_at(spec.get(key), f"spec.{key}")
    return tuple(_row(kind, object_at(item, f"spec.{key}[{i}]"), f"spec.{key}[{i}]") for i, item in enumerate(found))


def _row(kind: type[R], row: Json, where: str) -> R:
    return kind(*(_READERS[field.type](row, _KEYS.get(field.name, field.name), where) for field in fields(kind)))


def plain(number: Decimal) -> str:
    """A decimal as text without an exponent and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(value: Mapping[str, object], key: str, where: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise WireError(f"{where}.{key}", found, "write a text")
    return found


def _decimal(value: Mapping[str, object], key: str, where: str) -> Decimal:
    found = value.get(key, "0")
    if not isinstance(found, str) or not _NUMBER.fullmatch(found):
        raise WireError(f"{where}.{key}", found, 'write a number as a text, such as "3600.5"')
    try:
        return Decimal(found)
    except InvalidOperation as error:
        raise WireError(f"{where}.{key}", found, "write a number as a text") from error


_READERS: Mapping[Any, Callable[[Json, str, str], Any]] = {
    str: _text,
    Decimal: _decimal,
    int: lambda row, key, where: whole(row, key, where, 0, (0, _MOST)),
    bool: lambda row, key, where: flag(row, key, where, True),
}
"""How a field of a row is read, by its type."""
