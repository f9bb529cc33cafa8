"""Kunlunxin: whole cards go to one container, and vXPU's sizes. HAMi 2.10.0: `pkg/device/kunlun`, `vdevice.go`.

HAMi cuts an ask that exceeds a card down to the card; Kerf refuses it, since the pod would get less than it asks.
"""

from dataclasses import replace

from kerf.values.ask import ContainerAsk
from kerf.values.units import show
from kerf.values.words import Said
from kerf.vendors.build import Special

SIZES = ((24_576, 25), (49_152, 50), (98_304, 100))


def resolve(ask: ContainerAsk, said: Said) -> ContainerAsk:
    """The share that holds the ask: a quarter for 0, the whole card where no memory is asked. Raises ValueError."""
    wanted = SIZES[-1][0] if said.memory_mib is None else said.memory_mib
    size = next((size for size in SIZES if size[0] >= wanted), None)
    if size is None:
        raise ValueError(f"a card has {show(SIZES[-1][0])} MiB: write at most that")
    return replace(ask, memory_mib=size[0], memory_percent=None, cores=size[1])


def remarks(ask: ContainerAsk) -> str:
    """Which share the ask gets."""
    share = {25: "a quarter of a card", 50: "half a card", 100: "a whole card"}[ask.cores]
    return f"the pod gets {share}, {show(ask.memory_mib or 0)} MiB: a card is cut into quarters or halves"


def refuses_pod(asks: tuple[ContainerAsk, ...]) -> str:
    """Whole cards in several containers: the pod has one list of cards, `BAIDU_COM_DEVICE_IDX`."""
    return "the pod has one list of cards: ask for all of them in one container" if len(asks) > 1 else ""


WHOLE = Special(words={"refuses_pod": refuses_pod})
SPECIAL = Special(words={"resolve": resolve, "remarks": remarks})
