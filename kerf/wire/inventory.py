"""A vendor's inventory on a node: its cards as versioned JSON, in the vendor's own annotation."""

from collections import Counter
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from kerf.values.allocator import Allocator
from kerf.values.device import BY_INDEX, Backend, Card, Mode
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.wire.errors import WireError
from kerf.wire.forms import Form, Forms
from kerf.wire.json import dumps, loads
from kerf.wire.mig import geometry_json, parse_geometry

KEY = "kerf.dev/inventory"
VERSION = 1
_LONGEST_TEXT = _LONGEST_CAUSE = 253
_LIMITS = {
    "memory_mib": 2**31 - 1,
    "cores": 10_000,
    "slots": 10_000,
    "numa": 1024,
    "index": 4096,
    "since": 2**53,
    "code": 10**6,
    "falls": 10**6,
}
_OWN = frozenset({"id", "index", "links", "bus"})
"""What a card shares with no other."""
_SORTS: dict[str, dict[str, Any]] = {}
_MOST_SORTS = 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """A card of an inventory without its id. `links` are the places of the cards it is linked to."""

    before: tuple[Any, ...]
    """The fields of the card between its id and its links."""
    links: tuple[int, ...]
    behind: tuple[Any, ...]


_FIELDS = [field.name for field in fields(Card)]
_BEFORE = attrgetter(*_FIELDS[1 : _FIELDS.index("links")])
_BEHIND = attrgetter(*_FIELDS[_FIELDS.index("links") + 1 :])
_FORMS: Forms[tuple[_Place, ...]] = Forms("id")
_GAP = "\t"
"""No form has a tab or a line break of its own."""


def render_inventory(cards: tuple[Card, ...]) -> str:
    """The annotation's text: cards by index, keys in a fixed order, so equal inventories are equal texts."""
    ordered = sorted(cards, key=BY_INDEX)
    return dumps({"v": VERSION, "cards": [_card_json(card) for card in ordered]})


def parse_inventory(text: str, key: str = KEY, vendor: str | None = None) -> tuple[Card, ...]:
    """The cards of the annotation `key`; `vendor` is that of cards that name none. Raises WireError.

    Unknown keys are ignored, a higher version is refused.
    """
    form, ids = _form_of(text)
    places = _FORMS.get(form, vendor) if len(set(ids)) == len(ids) else None
    if places is None:
        cards = _read(text, key, vendor)
        _keep(form, ids, vendor, cards)
    else:
        cards = [_filled(place, id_, ids) for place, id_ in zip(places, ids, strict=True)]
    return tuple(sorted(cards, key=BY_INDEX))


def _form_of(text: str) -> tuple[Form, tuple[str, ...]]:
    """The form, with places instead of ids where cards name each other, and the ids; without a form no ids."""
    form, ids = _FORMS.split(text) or ((), ())
    if '"links"' not in text:
        return form, ids
    rest = _GAP.join(form)
    for at, each in enumerate(ids):
        rest = rest.replace(f'"{each}"', _link(at))
    return (rest,), ids


def _link(at: int) -> str:
    return f"\n{at}\n"


def _filled(place: _Place, id_: str, ids: tuple[str, ...]) -> Card:
    links = tuple([ids[at] for at in place.links]) if place.links else ()
    return Card(*(id_, *place.before, links, *place.behind))  # by place: words cost as much again


def _keep(form: Form, ids: tuple[str, ...], vendor: str | None, cards: list[Card]) -> None:
    """Remember the form, if each id of the text is that of a card, or the link of one."""
    if not ids or ids != tuple(card.id for card in cards):
        return
    at = {each: i for i, each in enumerate(ids)}
    links = Counter(link for card in cards for link in card.links)
    if links.keys() <= at.keys() and all(form[0].count(_link(at[each])) == links[each] for each in ids):
        places = (_Place(_BEFORE(card), tuple(at[link] for link in card.links), _BEHIND(card)) for card in cards)
        _FORMS.keep(form, vendor, tuple(places))


def _read(text: str, key: str, vendor: str | None) -> list[Card]:
    """The cards in the order of the text."""
    document = parse_versioned(text, key, VERSION)
    cards = document.get("cards")
    if not isinstance(cards, list):
        raise WireError(f"{key}.cards", cards, "write a list of cards")
    parsed = tuple(_card(card, f"{key}.cards[{i}]", vendor) for i, card in enumerate(cards))
    return list(distinct(parsed, f"{key}.cards"))


def distinct(cards: tuple[Card, ...], where: str) -> tuple[Card, ...]:
    """The cards, each of which has an id of its own. Raises WireError."""
    ids = [card.id for card in cards]
    if len(set(ids)) != len(ids):
        raise WireError(where, ids, "give every card its own id")
    return cards


def parse_versioned(text: str, key: str, newest: int) -> dict[str, Any]:
    """A JSON object with a version `v` that this program can read. Raises WireError."""
    try:
        document = loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(key, text, f"write JSON ({error})") from error
    if not isinstance(document, dict):
        raise WireError(key, text, "write a JSON object")
    version = document.get("v")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise WireError(f"{key}.v", version, f"write the format's version, a whole number up to {newest}")
    if version > newest:
        raise WireError(
            f"{key}.v", version, f"written by a newer Kerf; this one reads up to version {newest}: upgrade it"
        )
    return document


def _card_json(card: Card) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": card.id,
        "index": card.index,
        "vendor": card.vendor,
        "model": card.model,
        "memory_mib": card.memory_mib,
        "cores": card.cores,
        "slots": card.slots,
        "numa": card.numa,
        "mode": card.mode.value,
        "healthy": card.healthy,
    }
    if card.health != HEALTHY:
        out["health"] = _health_json(card.health)
    out |= {key: text for key, text in (("bus", card.bus), ("driver", card.driver[:_LONGEST_TEXT])) if text}
    if card.links:
        out["links"] = list(card.links)
    amounts = {"physical_mib": card.physical_mib, "reserved_mib": card.reserved_mib}
    out |= {key: amount for key, amount in amounts.items() if amount}
    if card.allocator is not Allocator.EXTENDER:
        out["allocator"] = card.allocator.value
    if card.backend is not Backend.UNSAID:
        out["backend"] = card.backend.value
    if not card.joint:
        out["joint"] = False
    if card.mode_note:
        out["mode_note"] = card.mode_note[:_LONGEST_CAUSE]
    if card.mig is not None:
        out["mig"] = geometry_json(card.mig)
    return out


def _card(value: object, where: str, vendor: str | None) -> Card:
    if not isinstance(value, dict):
        raise WireError(where, value, "write an object")
    links = value.get("links", [])
    if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
        raise WireError(f"{where}.links", links, "write a list of card ids")
    return Card(
        id=_text(value, "id", where, None),
        index=_number(value, "index", where, 0),
        links=tuple(links),
        bus=_text(value, "bus", where, None) if "bus" in value else "",
        **_shared({key: each for key, each in value.items() if key not in _OWN}, where, vendor),
    )


def _shared(value: dict[str, Any], where: str, vendor: str | None) -> dict[str, Any]:
    """What many cards have in common, read once: a fleet of 40,000 cards has a few dozen sorts."""
    key = f"{vendor} {value}"
    if (known := _SORTS.get(key)) is None:
        if len(_SORTS) >= _MOST_SORTS:
            _SORTS.clear()
        known = _SORTS[key] = _sort_of(value, where, vendor)
    return known


def _sort_of(value: dict[str, Any], where: str, vendor: str | None) -> dict[str, Any]:
    mode = _text(value, "mode", where, "shared")
    if mode not in set(Mode):
        raise WireError(f"{where}.mode", mode, f"use one of {', '.join(Mode)}")
    return {
        "vendor": _text(value, "vendor", where, vendor),
        "model": _text(value, "model", where, None),
        "memory_mib": _number(value, "memory_mib", where, None),
        "cores": _number(value, "cores", where, 100),
        "slots": _number(value, "slots", where, 10),
        "numa": _number(value, "numa", where, 0),
        "mode": Mode(mode),
        "health": _health(value, where),
        "physical_mib": _number(value, "physical_mib", where, 0, limit="memory_mib"),
        "reserved_mib": _number(value, "reserved_mib", where, 0, limit="memory_mib"),
        "backend": _backend(value, where),
        "joint": _flag(value, "joint", where, default=True),
        "driver": _text(value, "driver", where, None) if "driver" in value else "",
        "mode_note": _text(value, "mode_note", where, None) if "mode_note" in value else "",
        "mig": parse_geometry(value["mig"], f"{where}.mig") if value.get("mig") is not None else None,
        "allocator": _allocator(value, where),
    }


def _backend(value: dict[str, Any], where: str) -> Backend:
    """What keeps the slices. One of a newer writer is not known here, which changes no decision but that of MPS."""
    word = _text(value, "backend", where, None) if "backend" in value else ""
    return Backend(word) if word in set(Backend) else Backend.UNSAID


def _allocator(value: dict[str, Any], where: str) -> Allocator:
    """An allocator of a newer writer is none that this program knows, so it places nothing on that card."""
    word = _text(value, "allocator", where, Allocator.EXTENDER.value)
    return Allocator(word) if word in set(Allocator) else Allocator.NONE


def _health_json(health: Health) -> dict[str, Any]:
    out = {"state": health.state.value, "cause": health.cause[:_LONGEST_CAUSE], "since": health.since}
    further = {
        "code": health.code,
        "moves": health.moves,
        "needs_reset": health.needs_reset,
        "falls": health.falls,
        "remedy": health.remedy,
        "boot": health.boot,
    }
    return {**out, **{key: value for key, value in further.items() if value}}


def _health(value: dict[str, Any], where: str) -> Health:
    """A card is healthy only if both keys say so; writers before `health` write `healthy` alone.

    A state of a newer writer is suspect: that card takes no new slices, and the node's other cards stay readable.
    """
    healthy, detail = value.get("healthy", True), value.get("health")
    if not isinstance(healthy, bool):
        raise WireError(f"{where}.healthy", healthy, "write true or false")
    if detail is None:
        return HEALTHY if healthy else SUSPECT
    if not isinstance(detail, dict):
        raise WireError(f"{where}.health", detail, "write an object")
    where, state, cause = f"{where}.health", detail.get("state"), detail.get("cause", "")
    if not isinstance(state, str):
        raise WireError(f"{where}.state", state, f"use one of {', '.join(State)}")
    if not isinstance(cause, str) or len(cause) > _LONGEST_CAUSE:
        raise WireError(f"{where}.cause", cause, f"write a text of at most {_LONGEST_CAUSE} characters")
    known = State(state) if state in set(State) else State.SUSPECT
    found = Health(
        state=known,
        cause=cause,
        since=_number(detail, "since", where, 0),
        code=_number(detail, "code", where, 0),
        moves=_flag(detail, "moves", where) and known is State.CORDONED,
        needs_reset=_flag(detail, "needs_reset", where),
        falls=_number(detail, "falls", where, 0),
        remedy=_text(detail, "remedy", where, None) if "remedy" in detail else "",
        boot=_text(detail, "boot", where, None) if "boot" in detail else "",
    )
    return found if healthy or not found.takes_slices else SUSPECT


def _flag(value: dict[str, Any], key: str, where: str, default: bool = False) -> bool:
    flag = value.get(key, default)
    if not isinstance(flag, bool):
        raise WireError(f"{where}.{key}", flag, "write true or false")
    return flag


def _text(value: dict[str, Any], key: str, where: str, default: str | None) -> str:
    text = value.get(key, default)
    if not isinstance(text, str) or not text or len(text) > _LONGEST_TEXT:
        raise WireError(f"{where}.{key}", text, "write a text of 1 to 253 characters")
    return text


def _number(value: dict[str, Any], key: str, where: str, default: int | None, limit: str = "") -> int:
    number = value.get(key, default)
    most = _LIMITS[limit or key]
    if isinstance(number, bool) or not isinstance(number, int) or not -1 <= number <= most:
        raise WireError(f"{where}.{key}", number, f"write a whole number up to {most}")
    return max(number, 0)
