"""The block `recovery` of a SchedulingPolicy."""

from kerf.values.fault import Verdict
from kerf.values.recovery import RecoverySettings
from kerf.wire.errors import WireError
from kerf.wire.fields import known, object_at, one_of, whole
from kerf.wire.json import Json

WHERE = "spec.recovery"
LARGEST_CODE = 99_999


def parse_recovery(value: Json) -> RecoverySettings:
    """The block. Raises WireError."""
    zero = RecoverySettings()
    known(value, WHERE, ("codes", "cleanReadings"))
    return RecoverySettings(
        clean_readings=whole(value, "cleanReadings", WHERE, zero.clean_readings, (1, 10_000)),
        codes=_codes(object_at(value.get("codes") or {}, f"{WHERE}.codes")),
    )


def _codes(value: Json) -> tuple[tuple[int, Verdict], ...]:
    where = f"{WHERE}.codes"
    found: dict[int, Verdict] = {}
    for key in value:
        text = str(key)
        if isinstance(key, bool) or not (text.isascii() and text.isdigit()) or int(text) > LARGEST_CODE:
            raise WireError(f"{where}.{text}", key, f"write a code, a whole number up to {LARGEST_CODE}")
        if int(text) in found:
            raise WireError(f"{where}.{text}", key, "write every code once")
        found[int(text)] = Verdict(
            one_of({text: value[key]}, text, where, None, [verdict.value for verdict in Verdict])
        )
    return tuple(sorted(found.items()))
