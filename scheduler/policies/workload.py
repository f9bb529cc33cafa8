"""The target workload: which classes of pods a fleet serves, and how often. Fragmentation is measured against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kerf.values.ask import ContainerAsk, PodAsk, Reach

SHARE = 95
"""Percent of the pods that the target's classes cover; the rare rest would only cost time."""
WHOLE = 10_000
"""Weights of a target's classes sum up to about this."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A class of pods as fragmentation sees it: `cards` cards with as much memory and cores each, and CPU beside them.

    Memory is in MiB, or in percent of the hardware where `memory_mib` is negative.
    """

    cpu_milli: int
    cards: int
    memory_mib: int
    memory_percent: int
    cores: int
    vendor: str = ""
    """Vendor of the cards; empty: any."""
    reach: Reach = field(default_factory=Reach)
    """Which cards it may take."""

    @property
    def ask(self) -> ContainerAsk:
        """One container of this class."""
        percent, mib = (self.memory_percent, None) if self.memory_mib < 0 else (None, self.memory_mib)
        return ContainerAsk(
            name="",
            cards=self.cards,
            memory_mib=mib,
            memory_percent=percent,
            cores=self.cores,
            vendor=self.vendor,
            group=self.reach.group,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Classes that ask for cards, with whole-number weights. Empty until pods were seen."""

    kinds: tuple[tuple[Kind, int], ...] = ()


def kind_of(ask: PodAsk) -> Kind | None:
    """The class of a pod; with several containers, that of its hardest one. None if it asks for no card."""
    if not ask.containers:
        return None
    hardest = max(ask.containers, key=lambda c: (c.cards, c.cores, c.memory_percent or 0, c.memory_mib or 0, c.name))
    return Kind(
        cpu_milli=ask.cpu_milli,
        cards=hardest.cards,
        memory_mib=-1 if hardest.memory_mib is None else hardest.memory_mib,
        memory_percent=hardest.memory_percent or 0,
        cores=hardest.cores,
        vendor=hardest.vendor,
        reach=replace(ask.reach, group=hardest.group),
    )


def target(counts: Mapping[Kind | None, float], most: int = 256) -> Target:
    """The most popular classes, at most `most`, that cover SHARE percent of the pods; None: pods without cards."""
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, item[0] or _FIRST))
    chosen: list[tuple[Kind | None, float]] = []
    covered = 0.0
    for kind, count in ranked:
        if covered * 100 >= SHARE * total or len(chosen) == most:
            break
        covered += count
        chosen.append((kind, count))
    weighted = ((kind, round(count * WHOLE / covered)) for kind, count in chosen if kind is not None)
    return Target(tuple(sorted((kind, weight) for kind, weight in weighted if weight)))


def with_whole_cards(target: Target, widest: int) -> Target:
    """The target plus pods of 2, 4, 8 … whole cards, up to the widest node.

    Where pods come and go, pods of many cards suffer first: they are too rare to be in a target, and nothing else keeps
    whole nodes free for them. Where pods only come, the plain target packs tighter.
    """
    weights = dict(target.kinds)
    cards = 2
    while cards <= widest:
        kind = Kind(0, cards, -1, 100, 100)
        weights[kind] = weights.get(kind, 0) + WHOLE * _WHOLE_CARDS // 100
        cards *= 2
    return Target(tuple(sorted(weights.items())))


_FIRST = Kind(0, 0, 0, 0, 0)
_WHOLE_CARDS = 3  # percent of the pods; measured on openb under churn: 1 loses half as much again, 6 gains nothing
