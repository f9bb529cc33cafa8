"""Huawei Ascend, seven kinds of cards. HAMi 2.10.0: `pkg/device/ascend/device.go`, and the chart's device ConfigMap.

Cards are cut by templates, in which case a slice is the smallest template that holds the ask. Where the plugin of a
node runs in its soft mode (node annotation `hami-vnpu-core: "true"`), pods with `huawei.com/vnpu-mode: hami-core` get
what they ask. The plugin of such a node treats every pod so: pods without the annotation never go there, since
without a limit of memory they would take the whole card.

The two processors of a 910C module are granted together, so a module is one card here, named after the first of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import Slice
from kerf.values.places import one
from kerf.values.recorded import Device
from kerf.values.slicing import Exactly, NotSliced, Size, Slicing, Templates, WholeCard
from kerf.values.units import show
from kerf.values.vendor import Placement
from kerf.values.words import CoresError, Said
from kerf.vendors.build import Special
from kerf.wire.json import Json, at, dumps

MODE = "huawei.com/vnpu-mode"
SOFT_WORD = "hami-core"
SOFT_NODE = "hami-vnpu-core"
TEMPLATE, SOFT = "template", "soft"
MATE = "mate"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Ascend card: `allocatable` MiB of `capacity`, AI cores, and templates of (name, MiB, AI cores)."""

    word: str
    allocatable: int
    capacity: int
    cores: int
    templates: tuple[tuple[str, int, int], ...]

    @property
    def vendor(self) -> str:
        """Kerf's name of the vendor: one for each kind, since each has resources of its own."""
        return self.word.lower().replace("-", "v")

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The templates, the smallest first."""
        return tuple(Size(mib, cores * 100 // self.cores, name) for name, mib, cores in self.templates)

    @property
    def paired(self) -> bool:
        """Whether two processors make one module."""
        return self.word == "Ascend910C"


_OF_20 = (("vir05_1c_16g", 16384, 5), ("vir10_3c_32g", 32768, 10))
KINDS = (
    Kind(
        "Ascend910A",
        32768,
        32768,
        30,
        (("vir02", 2184, 2), ("vir04", 4369, 4), ("vir08", 8738, 8), ("vir16", 17476, 16)),
    ),
    Kind(
        "Ascend910B2",
        65536,
        65536,
        24,
        (("vir03_1c_8g", 8192, 3), ("vir06_1c_16g", 16384, 6), ("vir12_3c_32g", 32768, 12)),
    ),
    Kind("Ascend910B3", 65536, 65536, 20, _OF_20),
    Kind("Ascend910B4", 32768, 32768, 20, (("vir05_1c_8g", 8192, 5), ("vir10_3c_16g", 16384, 10))),
    Kind("Ascend910B4-1", 65536, 65536, 20, _OF_20),
    Kind("Ascend310P", 21527, 24576, 8, (("vir01", 3072, 1), ("vir02", 6144, 2), ("vir04", 12288, 4))),
    Kind("Ascend910C", 65536, 65536, 20, _OF_20),
)


def special_of(kind: Kind) -> Special:
    """What the description of one kind does not say."""
    return Special(
        words={
            "count_unit": 2 if kind.paired else 1,
            "resolve": partial(resolve, kind),
            "remarks": partial(remarks, kind),
            "refuses_pod": refuses_pod,
            "group_of": group_of,
            "group_key": MODE,
        },
        slicing_of=partial(slicing_of, kind),
        cards=partial(cards_of, kind),
        device=partial(device, kind),
        means=partial(means, kind),
        owner=module_of if kind.paired else None,
        notes=partial(notes, kind),
        writes=frozenset({f"huawei.com/{kind.word}"}),
        obeys=frozenset({MODE}),
    )


def group_of(notes: Mapping[str, Any]) -> str:
    """Whether the pod wants templates or soft slices. Raises ValueError for a mode that does not exist."""
    mode = str(notes.get(MODE) or "")
    if mode not in {"", SOFT_WORD}:
        raise ValueError(f"write {SOFT_WORD} for soft slices, or drop it for templates")
    return SOFT if mode else TEMPLATE


def resolve(kind: Kind, ask: ContainerAsk, said: Said) -> ContainerAsk:
    """The template that holds the ask, or the whole card. Raises ValueError for what no card of the kind can do."""
    if kind.paired and (said.count or 0) > 1 and (said.count or 0) % 2:
        raise ValueError(f"write 1 or an even number: {kind.word} come in pairs, {said.count} were asked")
    if (said.memory_mib or 0) > kind.capacity:
        raise ValueError(f"a card has {show(kind.capacity)} MiB: write at most that")
    if kind.paired:
        return _whole_modules(kind, ask, said)
    if ask.group == SOFT:
        return ask
    if said.cores is not None:
        raise CoresError(
            f"cores can be asked of soft slices alone: add the annotation {MODE}: {SOFT_WORD}, or drop them"
        )
    template = _template(kind, said.memory_mib)
    if template is None:
        return _whole(ask)
    if ask.cards > 1:
        raise ValueError("several cards cannot be cut by a template: ask for one card, or for whole ones")
    return replace(ask, memory_mib=template.memory_mib, memory_percent=None, cores=template.cores)


def _whole_modules(kind: Kind, ask: ContainerAsk, said: Said) -> ContainerAsk:
    if _template(kind, said.memory_mib) is not None:
        raise ValueError(f"{kind.word} modules are not cut: drop the memory")
    if said.cores is not None:
        raise CoresError(f"{kind.word} modules are not cut: drop the cores")
    return _whole(ask)


def _whole(ask: ContainerAsk) -> ContainerAsk:
    return replace(ask, memory_mib=None, memory_percent=100, cores=100)


def _template(kind: Kind, mib: int | None) -> Size | None:
    """The template for so much memory, the smallest for 0; None for a whole card."""
    if mib is None:
        return None
    return next((size for size in kind.sizes if size.memory_mib >= mib), None)


def refuses_pod(asks: tuple[ContainerAsk, ...]) -> str:
    """Parts of two sizes: the plugin keeps one size a card and pod, so one container would get that of another."""
    parts = {(ask.memory_mib, ask.memory_percent, ask.cores) for ask in asks if ask.memory_percent != 100}
    return "containers of a pod that share a card get one size: ask for the same in each" if len(parts) > 1 else ""


def remarks(kind: Kind, ask: ContainerAsk) -> str:
    """Which template the ask gets, or that it gets whole cards."""
    if kind.paired:
        return f"{kind.word} come in pairs, each of which is granted whole"
    if ask.group == SOFT:
        return ""
    if ask.memory_mib is None:
        return f"the pod gets the whole card, {show(kind.allocatable)} MiB: no template holds so much"
    name = next((size.name for size in kind.sizes if size.memory_mib == ask.memory_mib), "")
    return f"the pod gets the template {name}, {show(ask.memory_mib)} MiB, the smallest that holds what is asked"


def slicing_of(kind: Kind, card: Card) -> Slicing:
    """Templates, soft slices where the node's plugin makes them, or whole modules."""
    if card.model != kind.word:
        return NotSliced(f"{card.model} is no {kind.word}")
    if kind.paired:
        return WholeCard() if card.fact(MATE) or not card.facts else NotSliced("its module lacks the second processor")
    if card.fact(SOFT):
        return Exactly(groups=((SOFT, ()),))
    return Templates(kind.sizes, group=TEMPLATE)


def cards_of(kind: Kind, node: Json, found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The node's cards, with the mode of its plugin; modules where processors come in pairs."""
    soft = str(at(node, "metadata", "annotations").get(SOFT_NODE, "")).lower() == "true"
    cards = tuple(replace(card, memory_mib=min(card.memory_mib, kind.allocatable)) for card in found)
    if kind.paired:
        return _modules(cards)
    return tuple(replace(card, facts=(*card.facts, (SOFT, "true"))) for card in cards) if soft else cards


def _modules(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    by_module: dict[int, list[Card]] = {}
    for card in cards:
        by_module.setdefault(card.index // 2, []).append(card)
    return tuple(_module(number, parts) for number, parts in sorted(by_module.items()))


def _module(number: int, parts: list[Card]) -> Card:
    first = replace(parts[0], index=number, slots=len(parts))
    if len(parts) != 2:
        return first
    worse = next((part for part in parts if not part.healthy), parts[0])
    facts = (*first.facts, (MATE, parts[1].id))
    return replace(first, memory_mib=sum(part.memory_mib for part in parts), health=worse.health, facts=facts)


def device(kind: Kind, piece: Slice, _card: Card) -> tuple[str, str, int, int]:
    """A slice in HAMi's record: templates and whole cards count no cores there."""
    return piece.card, kind.word, piece.memory_mib, piece.cores if _card.fact(SOFT) else 0


def means(kind: Kind, recorded: Device, card: Card) -> Slice:
    """The template of a record's MiB, a soft slice as it is written, or a processor's part of its module."""
    _, _, memory, cores = recorded
    if kind.paired:
        half = memory or card.memory_mib // 2
        return Slice(card.id, card.vendor, half, min(100 * half // max(card.memory_mib, 1), 100))
    if card.fact(SOFT):
        return Slice(card.id, card.vendor, memory, min(cores, 100), one(0))
    size = next((size for size in kind.sizes if size.memory_mib == memory), None)
    return Slice(card.id, card.vendor, memory, size.cores if size else 100)


def module_of(identity: str, cards: Mapping[str, Card]) -> Card | None:
    """The module of a processor."""
    return cards.get(identity) or next((card for card in cards.values() if card.fact(MATE) == identity), None)


def notes(kind: Kind, placement: Placement) -> Mapping[str, str]:
    """What the plugin makes the slices from: templates by name, or MiB and percent."""
    usual = placement.of(kind.vendor)
    held = [piece for _, slices in usual for piece in slices]
    found = [info for piece in held for info in _runtime(kind, piece, placement.cards[piece.card])]
    written = {f"huawei.com/{kind.word}": dumps(found)}
    if kind.paired:
        text = "".join("".join(_pair(kind, piece, placement) for piece in slices) + ";" for _, slices in usual)
        written |= {f"hami.io/{kind.word}-devices-{end}": text for end in ("to-allocate", "allocated")}
    return written


def _pair(kind: Kind, piece: Slice, placement: Placement) -> str:
    ids = (piece.card, placement.cards[piece.card].fact(MATE))
    return "".join(f"{one},{kind.word},{piece.memory_mib // 2},0:" for one in ids)


def _runtime(kind: Kind, piece: Slice, card: Card) -> list[dict[str, str | int]]:
    if kind.paired:
        return [{"UUID": piece.card}, {"UUID": card.fact(MATE)}]
    if card.fact(SOFT):
        amounts = {"memory": piece.memory_mib, "core": piece.cores}
        return [{"UUID": piece.card, **{key: value for key, value in amounts.items() if value}}]
    name = next((size.name for size in kind.sizes if size.memory_mib == piece.memory_mib), "")
    return [{"UUID": piece.card, **({"temp": name} if name else {})}]
