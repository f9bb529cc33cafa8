"""Names of cards as devices of the driver gpu.kerf.dev: Kubernetes wants lower case, and a card's id is not always."""

import re

from kerf.values.device import Card
from kerf.values.slicing import sliceable

DRIVER = "gpu.kerf.dev"
MEMORY, CORES, SLOTS = "memory", "cores", "slots"
"""Capacities of a device."""
_PLAIN = re.compile(r"GPU-([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)")
_LONGEST = 63
_LONGEST_ATTRIBUTE = 64
_SLICE, _WHOLE, _PART = "gpu", "card", "mig"
_PARTITION = re.compile(r"(.+)-([0-9]{1,9})-([0-9]{1,2})")


def slice_device(card: str) -> str:
    """The device by which a card gives slices; empty where the id is too long for one."""
    return _device(_SLICE, card)


def whole_device(card: str) -> str:
    """The device that is the whole card; empty where the id is too long for one."""
    return _device(_WHOLE, card)


def partition_device(card: str, profile: int, start: int) -> str:
    """The device that is a MIG instance of a card, by the profile's number and its first memory slice.

    Empty where the id is too long for one.
    """
    name = _device(_PART, card)
    name = f"{name}-{profile}-{start}" if name else ""
    return name if len(name) <= _LONGEST else ""


def partition_of(device: str) -> tuple[str, int, int] | None:
    """(card's id, profile, first memory slice) of a MIG instance; None for any other device."""
    found = _PARTITION.fullmatch(device)
    kind, _, rest = found.group(1).partition("-") if found else ("", "", "")
    if found is None or kind not in {_PART, f"{_PART}x"}:
        return None
    card = card_of(f"{_SLICE}{kind.removeprefix(_PART)}-{rest}")
    return (card[0], int(found.group(2)), int(found.group(3))) if card else None


def card_of(device: str) -> tuple[str, bool] | None:
    """(card's id, whether it is the whole card); None for a name that Kerf does not publish."""
    kind, _, rest = device.partition("-")
    if kind in {_SLICE, _WHOLE} and rest:
        return (f"GPU-{rest}", kind == _WHOLE) if _PLAIN.fullmatch(f"GPU-{rest}") else None
    if kind in {f"{_SLICE}x", f"{_WHOLE}x"}:
        try:
            return (bytes.fromhex(rest).decode(), kind == f"{_WHOLE}x") if rest else None
        except ValueError:
            return None
    return None


def attribute_text(text: str) -> str:
    """A text as an attribute of a device holds it: Kubernetes takes 64 bytes."""
    return text.encode(errors="replace")[:_LONGEST_ATTRIBUTE].decode(errors="ignore")


def can_be_claimed(card: Card) -> bool:
    """Whether the card can be a device, and its id makes a name: software keeps its slices, or it is in MIG mode.

    What others have made of a card in MIG mode does not matter: its hands do not change for that.
    """
    if card.mig is not None:
        return any(partition_device(card.id, p.id, max(p.starts, default=0)) for p in card.mig.plain)
    return sliceable(card) and not card.slicing.fixed and bool(slice_device(card.id))


def _device(kind: str, card: str) -> str:
    plain = _PLAIN.fullmatch(card)
    name = f"{kind}-{plain.group(1)}" if plain else f"{kind}x-{card.encode(errors='replace').hex()}"
    return name if len(name) <= _LONGEST else ""
