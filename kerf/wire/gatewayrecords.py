"""`kind: GatewayUsage` (kerf.dev/v1alpha1): what a gateway reported in an hour, written by the server of reports."""

import hashlib
from dataclasses import fields
from typing import Any

from kerf.values.usage import ReportedHour, ReportedRow, hour_text
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION, list_at, object_at, whole
from kerf.wire.json import Json
from kerf.wire.usage import DAY, day_text, moment_text, parse_moment

KIND = "GatewayUsage"
PATH = "/apis/kerf.dev/v1alpha1/gatewayusages"
_MOST = 2**63 - 1


def name_of(hour: ReportedHour) -> str:
    """The object's name: it sorts by hour, and no other server writes it."""
    digest = hashlib.sha256(f"{hour.gateway}\n{hour.server}".encode()).hexdigest()[:16]
    return f"{hour_text(hour.hour_ms)}-{digest}"


def render_reported(hour: ReportedHour) -> dict[str, Any]:
    """The object."""
    rows = [{field.name: getattr(row, field.name) for field in fields(row)} for row in hour.rows]
    spec = {"hour": moment_text(hour.hour_ms), "gateway": hour.gateway, "server": hour.server, "rows": rows}
    meta = {"name": name_of(hour), "labels": {DAY: day_text(hour.hour_ms)}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}


def parse_reported(item: object) -> ReportedHour:
    """An object. Unknown keys are ignored: a newer server may write more. Raises WireError."""
    spec = object_at(object_at(item, KIND).get("spec"), "spec")
    rows = list_at(spec.get("rows"), "spec.rows")
    return ReportedHour(
        hour_ms=parse_moment(spec.get("hour"), "spec.hour"),
        gateway=_text(spec, "gateway", "spec"),
        server=_text(spec, "server", "spec"),
        rows=tuple(_row(object_at(row, f"spec.rows[{i}]"), f"spec.rows[{i}]") for i, row in enumerate(rows)),
    )


def _row(row: Json, where: str) -> ReportedRow:
    counts = (whole(row, key, where, 0, (0, _MOST)) for key in ("requests", "input", "cached", "output"))
    key, user, model = (_text(row, name, where) for name in ("key", "user", "model"))
    return ReportedRow(key, user, model, *counts)


def _text(value: Json, key: str, where: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise WireError(f"{where}.{key}", found, "write a text")
    return found
