"""AMD's cores. HAMi 2.10.0: `pkg/device/amd/device.go`: a card's cores are compute units, a pod's are percent."""

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.words import CoresError, Said
from kerf.vendors.build import Special


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """Percent are from 1 to 100. Raises ValueError."""
    if said.cores is not None and not 1 <= said.cores <= 100:
        raise CoresError(f"cores are percent: {said.cores} is not from 1 to 100")
    return ask


def device(piece: Slice, card: Card) -> tuple[str, str, int, int]:
    """A slice in HAMi's record: the card's own type, and compute units, at least one."""
    units = int(card.fact("cores") or 100)
    return piece.card, card.model, piece.memory_mib, max(units * piece.cores // 100, 1)


SPECIAL = Special(words={"resolve": resolve}, device=device)
