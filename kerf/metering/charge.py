"""From intervals to use: cut at every change, each card shared among the pods that hold it.

In each piece a pod's share of a card is the greater of its shares of memory and of cores. Where all shares of a card
exceed one (over-commitment, or one pod with much memory beside one with many cores), each is divided by their sum. So
what is allocated of a card never exceeds the card, and the rest of it is idle.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from kerf.metering.use import CardTime, Held, Kind, Line, MeteredCard, Use, Who, share
from kerf.values.grant import CardUse


@dataclass(frozen=True, slots=True)
class Charge:
    """Use by line, and the time of cards by kind. `unknown` are cards that are held and not described."""

    lines: Mapping[Line, Use] = field(default_factory=dict)
    cards: Mapping[Kind, CardTime] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hold:
    """One pod's part of one card, within the window."""

    who: Who
    use: CardUse
    start: int
    end: int
    counted: int


def charge(cards: Mapping[str, MeteredCard], held: Iterable[Held], since_ms: int, until_ms: int) -> Charge:
    """What pods used of the cards from `since_ms` until `until_ms`, and for how long the cards were there."""
    holds: dict[str, list[_Hold]] = defaultdict(list)
    for pod in held:
        start, end = max(pod.start_ms, since_ms), min(pod.end_ms, until_ms)
        if start < end:
            for card, use in pod.uses.items():
                holds[card].append(_Hold(pod.who, use, start, end, max(pod.counted_ms, start)))
    lines: dict[Line, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for card_id, parts in holds.items():
        found = cards.get(card_id)
        if found is not None:
            _charge_card(found, parts, lines)
    return Charge(
        {line: Use(*amounts) for line, amounts in lines.items()},
        _times(cards.values(), max(until_ms - since_ms, 0)),
        tuple(sorted(holds.keys() - cards.keys())),
    )


def _times(cards: Iterable[MeteredCard], window_ms: int) -> dict[Kind, CardTime]:
    found: dict[Kind, CardTime] = {}
    us = window_ms * 1000
    for card in cards:
        found[card.kind] = found.get(card.kind, CardTime()) + CardTime(us, us * card.per_hour)
    return found


def _charge_card(card: MeteredCard, holds: list[_Hold], lines: dict[Line, list[int]]) -> None:
    first = holds[0]
    if all(h.start == first.start and h.end == first.end and h.counted == first.start for h in holds):
        _charge_piece(card, holds, (first.start, first.end), lines)  # nothing changed: nearly every card in a round
        return
    cuts = sorted({moment for hold in holds for moment in (hold.start, hold.end, hold.counted)})
    for start, end in pairwise(cuts):
        active = [hold for hold in holds if hold.start <= start and end <= hold.end]
        if active:
            _charge_piece(card, active, (start, end), lines)


def _charge_piece(card: MeteredCard, active: list[_Hold], piece: tuple[int, int], lines: dict[Line, list[int]]) -> None:
    start, ms = piece[0], piece[1] - piece[0]
    parts = [share(hold.use, card.memory_mib) for hold in active]
    whole = max(parts[0][1], sum(part for part, _ in parts))
    for hold, (part, _) in zip(active, parts, strict=True):
        if hold.counted > start:
            continue
        amounts = lines[hold.who, card.kind]
        us = part * ms * 1000 // whole
        amounts[0] += us
        amounts[1] += hold.use.memory_mib * ms
        amounts[2] += hold.use.cores * ms
        amounts[3] += us * card.per_hour
