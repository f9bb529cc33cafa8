"""The node's last word: whether a pod may hold what its grant says beside what the cards hold already."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deviceplugin.core.refusal import Refusal, Why
from kerf.values.ask import ContainerAsk
from kerf.values.device import Card
from kerf.values.grant import NO_USE, CardUse, Holding, Slice, card_uses
from kerf.values.policy import Defaults
from kerf.values.units import show, show_mib
from kerf.vendors.registry import NAMES
from kerf.wire.errors import WireError
from kerf.wire.resources import containers_of, parse_container

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A live pod of this node. `order` sorts by binding time, creation time, uid."""

    holding: Holding
    started: bool
    """Some container of it was let in before: its slices are in use."""
    order: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Room:
    """One card, what the pod wants of it and what the pods counted before it hold."""

    card: Card
    want: CardUse
    used: CardUse
    tenants: tuple[str, ...]


def check_ask(spec: Json, holding: Holding, cards: Mapping[str, Card], defaults: Defaults) -> Refusal | None:
    """Refuse a grant that does not answer the pod's own limits: something is missing, or it was edited since."""
    unknown = {container.name for container in holding.grant.containers if container.slices}
    for container, stage in containers_of(spec):
        name = str(container.get("name", ""))
        unknown.discard(name)
        try:
            asks = [ask for names in NAMES if (ask := parse_container(container, stage, names, defaults))]
        except WireError as error:
            return _bad(holding, str(error))
        refusal = _answers(holding, name, asks, cards)
        if refusal:
            return refusal
    if unknown:
        return _bad(holding, f"its grant names container {min(unknown)}, which it does not have")
    return None


def _answers(holding: Holding, name: str, asks: list[ContainerAsk], cards: Mapping[str, Card]) -> Refusal | None:
    slices = holding.grant.of(name)
    wanted = sum(ask.cards for ask in asks)
    if wanted and not slices:
        message = f"container {name} of pod {holding.pod} asks for {wanted} cards and its grant holds none for it"
        return Refusal(Why.NO_GRANT, message)
    if len(slices) != wanted:
        return _bad(holding, f"container {name} asks for {wanted} cards and was granted {len(slices)}")
    for piece in slices:
        card, ask = cards.get(piece.card), next((ask for ask in asks if ask.vendor == piece.vendor), None)
        if ask is None:
            return _bad(holding, f"container {name} asks for no {piece.vendor} card and was granted {piece.card}")
        if card is None:
            continue  # check_start names it
        memory = ask.memory_on(card.factory_memory_mib)
        if piece.memory_mib > memory or piece.cores > ask.cores:
            asked, granted = _amount(memory, ask.cores), _amount(piece.memory_mib, piece.cores)
            return _bad(holding, f"container {name} asks for {asked} a card and was granted {granted} of {card.id}")
    return None


def check_start(pod: Tenant, others: tuple[Tenant, ...], cards: Mapping[str, Card]) -> Refusal | None:
    """Whether the pod may start, None if so. `cards` carry the node's over-commitment in their memory and cores.

    Of two pods that over-commit a card together exactly one is refused: the one that has not started, and of two that
    have not, the one bound later. A pod that has started is measured against the other started ones only.
    """
    counted = [o for o in others if o.started or (not pod.started and o.order < pod.order)]
    uses = [(o.holding, card_uses(o.holding.grant, o.holding.stages)) for o in counted]
    for card_id, want in sorted(card_uses(pod.holding.grant, pod.holding.stages).items()):
        card = cards.get(card_id)
        if card is None:
            return Refusal(Why.NO_CARD, f"pod {pod.holding.pod} was granted card {card_id}, which this node lacks")
        if not card.healthy and not pod.started:
            message = f"card {card_id}, granted to pod {pod.holding.pod}, is unhealthy"
            return Refusal(Why.UNHEALTHY, message, lasting=False)
        sharing = [(holding, use[card_id]) for holding, use in uses if card_id in use]
        used = sum((use for _, use in sharing), NO_USE)
        refusal = _full(pod, _Room(card, want, used, tuple(h.pod for h, _ in sharing))) or _alone(
            pod, card, [holding for holding, _ in sharing]
        )
        if refusal:
            return refusal
    return None


def _full(pod: Tenant, room: _Room) -> Refusal | None:
    card, want, used = room.card, room.want, room.used
    largest = max((s.memory_mib for s in _slices_on(pod.holding, card.id)), default=0)
    if largest > card.factory_memory_mib:
        message = f"a slice of {show_mib(largest)} is larger than card {card.id} ({show_mib(card.factory_memory_mib)})"
        return Refusal(Why.OVERCOMMIT, f"pod {pod.holding.pod}: {message}")
    for has, holds, wants, unit in (
        (card.memory_mib, used.memory_mib, want.memory_mib, "MiB"),
        (card.cores, used.cores, want.cores, "% of its cores"),
        (card.slots, used.slots, want.slots, "slots"),
    ):
        if holds + wants > has:
            by = f" ({', '.join(sorted(room.tenants)[:3])}{' and others' if len(room.tenants) > 3 else ''})"
            message = (
                f"pod {pod.holding.pod} was granted {show(wants)} {unit} of card {card.id}, but {show(holds)} of its "
                f"{show(has)} are held{by if room.tenants else ''}: {show(max(has - holds, 0))} are free"
            )
            return Refusal(Why.OVERCOMMIT, message, lasting=False)
    return None


def _alone(pod: Tenant, card: Card, others: list[Holding]) -> Refusal | None:
    if not others or card.cores != 100:  # over-committed cores make "100 %" shareable
        return None
    owners = [h for h in (pod.holding, *others) if any(s.cores >= 100 for s in _slices_on(h, card.id))]
    if not owners:
        return None
    message = f"card {card.id} is granted to pod {owners[0].pod} for itself and to {len(others)} more besides"
    return Refusal(Why.OVERCOMMIT, f"pod {pod.holding.pod}: {message}", lasting=False)


def _slices_on(holding: Holding, card: str) -> list[Slice]:
    return [piece for container in holding.grant.containers for piece in container.slices if piece.card == card]


def _bad(holding: Holding, problem: str) -> Refusal:
    return Refusal(Why.BAD_GRANT, f"pod {holding.pod}: {problem}")


def _amount(memory_mib: int, cores: int) -> str:
    return f"{show_mib(memory_mib)} and {cores} % of the cores"
