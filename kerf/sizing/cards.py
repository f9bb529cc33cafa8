"""Cards by name: how much memory the driver's NVML reports, and how much of it no program can use."""

from dataclasses import dataclass

from kerf.values.card_names import meant
from kerf.wire.errors import WireError

VENDOR = "nvidia"
"""Of whose cards it is known what engines take beside weights and cache."""


@dataclass(frozen=True, slots=True)
class CardType:
    """One size of card. `reserved`: MiB that the driver keeps on an idle card, where it was measured."""

    name: str
    mib: int
    reserved: int
    models: tuple[str, ...]
    """What the driver calls cards of this size."""

    @property
    def usable(self) -> int:
        """MiB that a slice can really have."""
        return self.mib - self.reserved

    @property
    def selection(self) -> str:
        """The value of `nvidia.com/use-gputype` that selects such cards: the driver's names."""
        return ",".join(self.models or (self.name,))


CARDS = tuple(
    CardType(name, mib, reserved, tuple(models))
    for name, mib, reserved, *models in (
        ("T4", 15360, 0, "Tesla T4"),
        ("V100-16GB", 16384, 0, "Tesla V100-SXM2-16GB", "Tesla V100-PCIE-16GB"),
        ("V100-32GB", 32768, 0, "Tesla V100-SXM2-32GB", "Tesla V100-PCIE-32GB"),
        ("L4", 23034, 0),
        ("A10", 23028, 0, "NVIDIA A10G"),
        ("A30", 24576, 0),
        ("RTX4090", 24564, 0, "NVIDIA GeForce RTX 4090"),
        ("A100-40GB", 40960, 0, "NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
        ("L40S", 46068, 0),
        ("L40", 46068, 0),
        ("L20", 46068, 0),
        ("A100-80GB", 81920, 0, "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
        ("H100", 81559, 480, "NVIDIA H100 80GB HBM3"),
        ("H100-PCIe", 81559, 0, "NVIDIA H100 PCIe"),
        ("H100-NVL", 95830, 0, "NVIDIA H100 NVL"),
        ("H800", 81559, 480, "NVIDIA H800"),
        ("H20", 97871, 0),
        ("H200", 143771, 615, "NVIDIA H200"),
        ("B200", 183359, 0),
    )
)
"""H100 and H200 were measured (driver 580.159.04); the others are what nvidia-smi prints on such cards."""
OLDER = frozenset(
    {"T4", "V100-16GB", "V100-32GB", "L4", "A10", "A30", "RTX4090", "A100-40GB", "L40S", "L40", "L20", "A100-80GB"}
)
"""Cards before Hopper, for which neither engine has sparse latent attention."""
LARGEST_MIB = max(card.usable for card in CARDS)
"""MiB of the largest card that is known."""


_BY_NAME = {name: card for card in CARDS for name in (card.name, f"NVIDIA {card.name}", *card.models)}


def cards_named(name: str) -> tuple[CardType, ...]:
    """Every card that a name can mean, as it is matched for pods and tenants: `A100` means two, an unknown one none."""
    return tuple(card for card in CARDS if card in {_BY_NAME[known] for known in meant(name, _BY_NAME)})


def card_named(name: str) -> CardType:
    """The card of a name: H100, h100, "NVIDIA H100 80GB HBM3". Raises WireError for none and for several."""
    found = cards_named(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise WireError("card", name, f"it means several: write {' or '.join(card.name for card in found)}")
    raise WireError("card", name, f"use one of {', '.join(card.name for card in CARDS)}, or --card-mib")


def is_older(name: str) -> bool:
    """Whether cards of this name are older than Hopper. False for names that are not known."""
    found = cards_named(name)
    return bool(found) and all(card.name in OLDER for card in found)


def reserved_on(name: str) -> int:
    """MiB that the driver keeps on a card of this name, 0 where it was not measured."""
    return next((card.reserved for card in cards_named(name)), 0)
