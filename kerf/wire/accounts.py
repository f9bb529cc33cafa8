"""A TenantQuota's `status`: the tenant's books, written by the quota controller, read by the webhook and the CLI."""

from collections.abc import Mapping
from typing import Any

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, NOTHING, Amount, Bound, total, total_bound
from kerf.values.units import show, show_mib
from kerf.wire.json import Json, at
from kerf.wire.quota import parse_tenant

_KEYS = {"memory_mib": "memoryMiB", "cores": "cores", "cards": "cards"}


def render_status(book: TenantAccount, generation: int) -> dict[str, Any]:
    """The status, without the times at which conditions changed."""
    return {
        "observedGeneration": generation,
        "enforced": book.enforced,
        "totals": {
            "guaranteed": _bound(total_bound(entry.guaranteed for entry in book.classes)),
            "used": _amount(total(entry.used for entry in book.classes)),
        },
        "classes": [_class(entry) for entry in book.classes],
        "waiting": list(book.waiting),
        "conditions": [_condition("Ready", not book.problems, book.problems or ("kept",)), _overcommitted(book)],
    }


def shrunk(book: TenantAccount) -> tuple[str, ...]:
    """A sentence for each promise that the cards do not keep."""
    return tuple(
        f"promised {_text(name, promised)} of {entry.model} and gets {_text(name, given)}"
        for entry in book.classes
        for name in DIMENSIONS
        if (promised := entry.promised.of(name)) is not None
        and (given := entry.guaranteed.of(name)) is not None
        and given < promised
    )


def parse_account(item: Json) -> TenantAccount:
    """The books of a TenantQuota object. Raises WireError for a spec that cannot be read; a missing status is empty."""
    tenant = parse_tenant(item)
    status = at(item, "status")
    classes = [_read(entry) for entry in status.get("classes") or () if isinstance(entry, Mapping)]
    return TenantAccount(
        name=tenant.name,
        namespaces=tenant.namespaces,
        enforced=bool(status.get("enforced")),
        classes=tuple(classes),
        problems=tuple(_messages(status, "Ready")),
        waiting=tuple(str(text) for text in status.get("waiting") or ()),
        priority=tenant.priority,
    )


def _class(entry: ClassAccount) -> dict[str, Any]:
    made = {
        "name": entry.slug,
        "vendor": entry.vendor,
        "model": entry.model,
        "mode": entry.mode,
        "cardMiB": {
            "smallest": entry.smallest_mib,
            "largest": entry.largest_mib,
            **({"reserved": entry.reserved_mib} if entry.reserved_mib else {}),
        },
        "promised": _bound(entry.promised),
        "guaranteed": _bound(entry.guaranteed),
        "limit": _bound(entry.limit),
        "used": _amount(entry.used),
        "borrowed": _amount(entry.borrowed),
        "pending": _amount(entry.pending),
    }
    extra = {"reserved": entry.reserved, "drift": entry.drift}
    return {**made, **{key: _amount(amount) for key, amount in extra.items() if amount is not None}}


def _read(entry: Json) -> ClassAccount:
    size = at(entry, "cardMiB")
    return ClassAccount(
        slug=str(entry.get("name", "")),
        vendor=str(entry.get("vendor", "")),
        model=str(entry.get("model", "")),
        mode=str(entry.get("mode", "")),
        smallest_mib=_int(size.get("smallest")) or 0,
        largest_mib=_int(size.get("largest")) or 0,
        reserved_mib=_int(size.get("reserved")) or 0,
        promised=_read_bound(at(entry, "promised")),
        guaranteed=_read_bound(at(entry, "guaranteed")),
        limit=_read_bound(at(entry, "limit")),
        used=_read_amount(at(entry, "used")),
        pending=_read_amount(at(entry, "pending")),
        reserved=_read_amount(at(entry, "reserved")) if "reserved" in entry else None,
        drift=_read_amount(at(entry, "drift")) if "drift" in entry else None,
    )


def _overcommitted(book: TenantAccount) -> dict[str, Any]:
    less = shrunk(book)
    because = "all promises together exceed the cards" if less else "every promise is kept"
    return _condition("Overcommitted", bool(less), (*less, because))


def _condition(kind: str, true: bool, sentences: tuple[str, ...]) -> dict[str, Any]:
    reason = kind if true else f"Not{kind}"
    return {"type": kind, "status": str(true), "reason": reason, "message": "; ".join(sentences)[:32_000]}


def _messages(status: Json, kind: str) -> list[str]:
    """What a condition that is not as it should be says."""
    return [
        str(condition.get("message", ""))
        for condition in status.get("conditions") or ()
        if isinstance(condition, Mapping) and condition.get("type") == kind and condition.get("status") == "False"
    ]


def _text(name: str, value: int) -> str:
    return show_mib(value) if name == "memory_mib" else f"{show(value)} {'% of cores' if name == 'cores' else 'cards'}"


def _bound(bound: Bound) -> dict[str, int]:
    return {_KEYS[name]: value for name in DIMENSIONS if (value := bound.of(name)) is not None}


def _amount(amount: Amount) -> dict[str, int]:
    return {_KEYS[name]: getattr(amount, name) for name in DIMENSIONS}


def _read_bound(value: Json) -> Bound:
    return Bound(*(_int(value.get(_KEYS[name])) for name in DIMENSIONS))


def _read_amount(value: Json) -> Amount:
    if not value:
        return NOTHING
    return Amount(*(_int(value.get(_KEYS[name])) or 0 for name in DIMENSIONS))


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
