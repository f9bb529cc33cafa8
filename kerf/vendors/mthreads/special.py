"""Moore Threads' sizes. HAMi 2.10.0: `pkg/device/mthreads/device.go`, MutateAdmission and GenerateResourceRequests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.words import Said
from kerf.vendors.build import Special

UNIT_MIB, CARD_UNITS, CARD_CORES = 512, 96, 16
SIZES = (2, 4, 8, 16, 32, 64, 96)
REQUESTED = "mthreads.com/request-gpu-num"


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """Several cards are whole, and so is one without a memory. Raises ValueError for a size that does not exist."""
    if ask.cards > 1 or not said.memory_mib:
        return replace(ask, memory_mib=CARD_UNITS * UNIT_MIB, memory_percent=None, cores=100)
    units = said.memory_mib // UNIT_MIB
    if units not in SIZES:
        raise ValueError(f"the unit is {UNIT_MIB} MiB: write one of {', '.join(map(str, SIZES))}")
    return ask


def remarks(ask: ContainerAsk) -> str:
    """Why memory and cores were raised."""
    if ask.cards > 1:
        return "several cards are taken whole"
    return "without mthreads.com/sgpu-memory a container gets a whole card" if ask.cores == 100 else ""


def notes(asks: tuple[ContainerAsk, ...], _notes: Mapping[str, Any]) -> Mapping[str, str]:
    """How many cards, where there are several."""
    several = [ask.cards for ask in asks if ask.cards > 1]
    return {REQUESTED: str(several[-1])} if several else {}


def device(piece: Slice, _card: Card) -> tuple[str, str, int, int]:
    """A slice in HAMi's record: cores of sixteen."""
    return piece.card, "Mthreads", piece.memory_mib, -(-piece.cores * CARD_CORES // 100)


SPECIAL = Special(words={"resolve": resolve, "remarks": remarks, "notes": notes, "fills": True}, device=device)
