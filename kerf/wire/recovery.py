"""The block `recovery` of a SchedulingPolicy."""

import json

from kerf.values.fault import Verdict
from kerf.values.recovery import AfterDeadline, BreakerSettings, RecoveryMode, RecoverySettings, Remedy
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, known, object_at, one_of, real, whole
from kerf.wire.json import Json, at, items_at

WHERE = "spec.recovery"
LARGEST_CODE = 99_999
LARGEST_TEMPLATE = 65_536
_KEYS = ("mode", "dryRun", "deadlineSeconds", "afterDeadline", "breaker", "cleanReadings", "codes", "remedies")


def parse_recovery(value: Json) -> RecoverySettings:
    """The block. Raises WireError."""
    zero = RecoverySettings()
    known(value, WHERE, _KEYS)
    return RecoverySettings(
        mode=parse_mode(value, "mode", WHERE) or zero.mode,
        dry_run=flag(value, "dryRun", WHERE, zero.dry_run),
        deadline_s=real(value, "deadlineSeconds", WHERE, zero.deadline_s, (0.0, 604_800.0)),
        after_deadline=AfterDeadline(
            one_of(value, "afterDeadline", WHERE, zero.after_deadline.value, [word.value for word in AfterDeadline])
        ),
        breaker=_breaker(object_at(value.get("breaker") or {}, f"{WHERE}.breaker")),
        clean_readings=whole(value, "cleanReadings", WHERE, zero.clean_readings, (1, 10_000)),
        codes=_codes(object_at(value.get("codes") or {}, f"{WHERE}.codes")),
        remedies=_remedies(object_at(value.get("remedies") or {}, f"{WHERE}.remedies")),
    )


def parse_mode(value: Json, key: str, where: str) -> RecoveryMode | None:
    """A mode; None where none is written. Raises WireError."""
    if key not in value:
        return None
    return RecoveryMode(one_of(value, key, where, None, [mode.value for mode in RecoveryMode]))


def _breaker(value: Json) -> BreakerSettings:
    where, zero = f"{WHERE}.breaker", BreakerSettings()
    known(value, where, ("percent", "windowSeconds", "quietSeconds"))
    return BreakerSettings(
        percent=whole(value, "percent", where, zero.percent, (1, 100)),
        window_s=real(value, "windowSeconds", where, zero.window_s, (1.0, 86_400.0)),
        quiet_s=real(value, "quietSeconds", where, zero.quiet_s, (1.0, 604_800.0)),
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


def _remedies(value: Json) -> tuple[tuple[Remedy, str], ...]:
    where = f"{WHERE}.remedies"
    known(value, where, [remedy.value for remedy in Remedy])
    return tuple(sorted((Remedy(key), _template(value[key], f"{where}.{key}")) for key in value))


def _template(value: object, where: str) -> str:
    template = object_at(value, where)
    if not items_at(dict(at(dict(template), "spec", "template", "spec")), "containers"):
        raise WireError(f"{where}.spec.template.spec.containers", template.get("spec"), "write a Job with a container")
    try:
        text = json.dumps(template, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(where, "…", f"write what JSON can say ({error})") from error
    if len(text) > LARGEST_TEMPLATE:
        raise WireError(where, f"{len(text)} characters", f"write at most {LARGEST_TEMPLATE}")
    return text
