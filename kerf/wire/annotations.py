"""`kerf.dev/grant` on a pod: what the pod holds, written once, in the Binding."""

import json
from typing import Any

from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.places import EVERYWHERE
from kerf.wire.errors import WireError
from kerf.wire.forms import Forms
from kerf.wire.inventory import parse_versioned
from kerf.wire.json import dumps

GRANT = "kerf.dev/grant"
VERSION = 1
CORDON = ("kerf.dev/cordon", "hami.io/device-cordon")
"""Node annotations: comma lists of card ids that take no new slices."""
FAULT_CORDON = "kerf.dev/fault-cordon"
"""Node annotation, the same list: cards that Kerf itself keeps out of use because of a fault."""
RESUME = "kerf.dev/recovery-resume"
"""Node annotation of a person: seconds since 1970 from which recovery goes on."""
OWNED_PREFIXES = ("kerf.dev/grant", "kerf.dev/inventory", "kerf.dev/plan", "kerf.dev/reservation")
"""Annotations that only Kerf writes; the webhook strips them from what users send."""
HAMI_STATE = frozenset(
    {
        "hami.io/vgpu-node",
        "hami.io/vgpu-time",
        "hami.io/vgpu-devices-to-allocate",
        "hami.io/vgpu-devices-allocated",
        "hami.io/vgpu-mig-allocations",
        "hami.io/bind-phase",
        "hami.io/bind-time",
    }
)
"""What HAMi's own components write on pods; forged on a new pod it must change nothing."""
_HAMI_ENDINGS = ("-devices-to-allocate", "-devices-allocated")
_OWNED_LABELS = frozenset({"hami.io/vgpu-node"})
MOST_SLICES = 1024
_FORMS: Forms[Grant] = Forms("card")


def owned_annotation(key: str) -> bool:
    """Whether only Kerf or HAMi's components may write this annotation of a pod."""
    if key.startswith(OWNED_PREFIXES) or key in HAMI_STATE:
        return True
    return key.startswith("hami.io/") and key.endswith(_HAMI_ENDINGS)


def owned_label(key: str) -> bool:
    """Whether only HAMi's components may write this label of a pod."""
    return key in _OWNED_LABELS


def render_grant(grant: Grant) -> str:
    """The annotation's text. Only containers that hold something are listed."""
    document: dict[str, Any] = {
        "v": VERSION,
        "containers": [
            {
                "name": container.name,
                "slices": [
                    {"card": s.card, "vendor": s.vendor, "memory_mib": s.memory_mib, "cores": s.cores}
                    | ({"place": s.place} if s.place else {})
                    for s in container.slices
                ],
            }
            for container in grant.containers
            if container.slices
        ],
    }
    document.update((key, json.loads(text)) for key, text in grant.extra)
    return dumps(document)


def parse_grant(text: str, vendor: str | None = None) -> Grant:
    """The grant of an annotation; `vendor` is that of slices that name none. Raises WireError.

    Unknown keys are kept, a higher version is refused.
    """
    if (parts := _FORMS.split(text)) is None:
        return _read(text, vendor)
    form, cards = parts
    if (known := _FORMS.get(form, vendor)) is not None and (filled := _filled(known, cards)) is not None:
        return filled
    grant = _read(text, vendor)
    if not grant.extra and tuple(slice_.card for slice_ in grant.slices) == cards:
        _FORMS.keep(form, vendor, grant)
    return grant


def _filled(known: Grant, cards: tuple[str, ...]) -> Grant | None:
    """A grant of the same form on other cards; None where a container would hold a card twice."""
    if len(cards) == 1 and len(known.containers) == 1:  # nearly every pod
        container, one = known.containers[0], known.containers[0].slices[0]
        piece = Slice(cards[0], one.vendor, one.memory_mib, one.cores, one.place)
        return Grant((ContainerGrant(container.name, (piece,)),))
    containers, left = [], iter(cards)
    for container in known.containers:
        slices = [Slice(next(left), one.vendor, one.memory_mib, one.cores, one.place) for one in container.slices]
        if len(slices) > 1 and len({slice_.card for slice_ in slices}) != len(slices):
            return None
        containers.append(ContainerGrant(container.name, tuple(slices)))
    return Grant(tuple(containers))


def _read(text: str, vendor: str | None) -> Grant:
    document = parse_versioned(text, GRANT, VERSION)
    containers = document.get("containers")
    if not isinstance(containers, list):
        raise WireError(f"{GRANT}.containers", containers, "write a list of containers")
    parsed = tuple(_container(item, f"{GRANT}.containers[{i}]", vendor) for i, item in enumerate(containers))
    if sum(len(container.slices) for container in parsed) > MOST_SLICES:
        raise WireError(f"{GRANT}.containers", len(parsed), f"hold at most {MOST_SLICES} slices")
    if len({container.name for container in parsed}) != len(parsed):
        raise WireError(f"{GRANT}.containers", [c.name for c in parsed], "list every container once")
    extra = tuple(
        (key, dumps(value, sort_keys=True)) for key, value in sorted(document.items()) if key not in {"v", "containers"}
    )
    return Grant(parsed, extra)


def _container(value: object, where: str, vendor: str | None) -> ContainerGrant:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise WireError(where, value, "write an object with the container's name")
    slices = value.get("slices")
    if not isinstance(slices, list):
        raise WireError(f"{where}.slices", slices, "write a list of slices")
    parsed = tuple(_slice(item, f"{where}.slices[{i}]", vendor) for i, item in enumerate(slices))
    if len({slice_.card for slice_ in parsed}) != len(parsed):
        raise WireError(f"{where}.slices", [s.card for s in parsed], "hold distinct cards")
    return ContainerGrant(value["name"], parsed)


def _slice(value: object, where: str, default: str | None) -> Slice:
    if not isinstance(value, dict):
        raise WireError(where, value, "write an object")
    card, vendor = value.get("card"), value.get("vendor", default)
    memory, cores = value.get("memory_mib"), value.get("cores", 0)
    if not isinstance(card, str) or not card:
        raise WireError(f"{where}.card", card, "write the card's id")
    if not isinstance(vendor, str) or not vendor:
        raise WireError(f"{where}.vendor", vendor, "write the card's vendor")
    if isinstance(memory, bool) or not isinstance(memory, int) or not 0 <= memory < 2**31:
        raise WireError(f"{where}.memory_mib", memory, "write MiB as a whole number")
    if isinstance(cores, bool) or not isinstance(cores, int) or not 0 <= cores <= 100:
        raise WireError(f"{where}.cores", cores, "write a percentage from 0 to 100")
    return Slice(card, vendor, memory, cores, _place(value, where))


def _place(value: dict[str, Any], where: str) -> int:
    place = value.get("place", 0)
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place <= EVERYWHERE:
        raise WireError(f"{where}.place", place, "write the number that Kerf wrote")
    return place
