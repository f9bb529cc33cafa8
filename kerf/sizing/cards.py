"""Cards by name: how much memory the driver's NVML reports, and how much of it no program can use."""

from dataclasses import dataclass

from kerf.wire.errors import WireError


@dataclass(frozen=True, slots=True)
class CardType:
    """One model of card. `reserved`: MiB that the driver keeps on an idle card, where it was measured."""

    name: str
    mib: int
    reserved: int = 0

    @property
    def usable(self) -> int:
        """MiB that a slice can really have."""
        return self.mib - self.reserved


CARDS = tuple(
    CardType(*row)
    for row in (
        ("T4", 15360),
        ("V100-16GB", 16384),
        ("V100-32GB", 32768),
        ("L4", 23034),
        ("A10", 23028),
        ("A30", 24576),
        ("RTX4090", 24564),
        ("A100-40GB", 40960),
        ("L40S", 46068),
        ("L40", 46068),
        ("L20", 46068),
        ("A100-80GB", 81920),
        ("H100", 81559, 480),
        ("H800", 81559, 480),
        ("H20", 97871),
        ("H200", 143771, 615),
        ("B200", 183359),
    )
)
"""H100 and H200 were measured (driver 580.159.04); the others are what nvidia-smi prints on such cards."""


def card_named(name: str) -> CardType:
    """The card of a name: H100, h100, "NVIDIA H100 80GB HBM3". Raises WireError."""
    wanted = _plain(name)
    exact = next((card for card in CARDS if _plain(card.name) == wanted), None)
    if exact is not None:
        return exact
    inside = [card for card in CARDS if _plain(card.name) in wanted]
    if inside:
        return max(inside, key=lambda card: len(card.name))
    starts = [card for card in CARDS if wanted and _plain(card.name).startswith(wanted)]
    if len(starts) == 1:
        return starts[0]
    raise WireError("card", name, f"use one of {', '.join(card.name for card in CARDS)}, or --card-mib")


def reserved_on(name: str) -> int:
    """MiB that the driver keeps on a card of this name, 0 where it was not measured."""
    try:
        return card_named(name).reserved
    except WireError:
        return 0


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum()).replace("nvidia", "")
