"""The start check: whether a pod may hold what its grant says, beside what the cards hold already."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from deviceplugin.core.modes import CardMode
from deviceplugin.core.refusal import StartRefusal, Why
from kerf.values.allocator import Allocator
from kerf.values.ask import ContainerAsk, whole_if_reserved
from kerf.values.device import Card, Mode
from kerf.values.grant import NO_USE, CardUse, ContainerGrant, Grant, Holding, Slice, card_uses
from kerf.values.mig import start_of
from kerf.values.places import counters
from kerf.values.policy import Defaults
from kerf.values.slicing import Size, alone_on, sizes
from kerf.values.units import show, show_mib
from kerf.values.vendor import ResourceNames
from kerf.wire.container_asks import parse_container
from kerf.wire.errors import WireError
from kerf.wire.json import Json
from kerf.wire.resources import containers_of


@dataclass(frozen=True, slots=True)
class LivePod:
    """A live pod of this node. `order` sorts by binding time, creation time, uid."""

    holding: Holding
    started: bool
    """One of its containers was admitted before, so its slices are in use."""
    order: tuple[str, str, str]
    allocator: Allocator = Allocator.EXTENDER
    """Who gave the pod its slices."""


@dataclass(frozen=True, slots=True)
class _Room:
    """One card, what the pod wants of it, and what the pods that count before it hold."""

    card: Card
    want: CardUse
    used: CardUse
    holders: tuple[str, ...]


def part_of(holding: Holding, vendors: Collection[str]) -> Holding:
    """The holding without slices of other vendors' cards."""
    containers = (
        ContainerGrant(container.name, tuple(piece for piece in container.slices if piece.vendor in vendors))
        for container in holding.grant.containers
    )
    return replace(holding, grant=Grant(tuple(container for container in containers if container.slices)))


def fitted(holding: Holding, cards: Mapping[str, Card]) -> Holding:
    """The holding as its cards are: a grant of all that a driver reports, its own part too, is the whole card."""

    def fit(piece: Slice) -> Slice:
        card = cards.get(piece.card)
        if card is None or not card.reserved_mib:
            return piece
        memory = whole_if_reserved(piece.memory_mib, card.factory_memory_mib, card.reserved_mib)
        return replace(piece, memory_mib=memory)

    containers = (replace(each, slices=tuple(map(fit, each.slices))) for each in holding.grant.containers)
    return replace(holding, grant=replace(holding.grant, containers=tuple(containers)))


def unobstructed(card: Card) -> Card:
    """A card in MIG mode as if nobody else had made instances on it: what it could give where these are gone."""
    if card.mig is None or not card.mig.taken:
        return card
    whole = replace(card.mig, taken=())
    return replace(card.in_mig(whole), slicing=whole.slicing)


def check_ask(
    spec: Json, holding: Holding, cards: Mapping[str, Card], names: tuple[ResourceNames, ...], defaults: Defaults
) -> StartRefusal | None:
    """Refuse a grant that does not match the pod's own limits: it lacks something, or was edited since."""
    holding, cards = fitted(holding, cards), {card_id: unobstructed(card) for card_id, card in cards.items()}
    unknown = {container.name for container in holding.grant.containers if container.slices}
    for container, stage in containers_of(spec):
        name = str(container.get("name", ""))
        unknown.discard(name)
        try:
            asks = [ask for words in names if (ask := parse_container(container, stage, words, defaults))]
        except WireError as error:
            return _bad(holding, str(error))
        refusal = _answers(holding, name, asks, cards)
        if refusal:
            return refusal
    if unknown:
        return _bad(holding, f"its grant names container {min(unknown)}, which it does not have")
    return None


def _answers(holding: Holding, name: str, asks: list[ContainerAsk], cards: Mapping[str, Card]) -> StartRefusal | None:
    slices = holding.grant.of(name)
    wanted = sum(ask.cards for ask in asks)
    if wanted and not slices:
        message = f"container {name} of pod {holding.pod} asks for {wanted} cards and its grant holds none for it"
        return StartRefusal(Why.NO_GRANT, message)
    if len(slices) != wanted:
        return _bad(holding, f"container {name} asks for {wanted} cards and was granted {len(slices)}")
    for piece in slices:
        card, ask = cards.get(piece.card), next((ask for ask in asks if ask.vendor == piece.vendor), None)
        if ask is None:
            return _bad(holding, f"container {name} asks for no {piece.vendor} card and was granted {piece.card}")
        if card is None:
            continue  # check_start refuses it by name
        if not any(_is_of(piece, size, card) for size in sizes(ask, card)):
            asked = _amount(ask.memory_on(card.factory_memory_mib, card.reserved_mib), ask.cores)
            granted = _amount(piece.memory_mib, piece.cores) + _where(piece, card)
            return _bad(holding, f"container {name} asks for {asked} a card and was granted {granted} of {card.id}")
    return None


def _is_of(piece: Slice, size: Size, card: Card) -> bool:
    """Whether a slice is of this size, or smaller where the hardware does not fix sizes."""
    if card.mig is not None and piece.place not in {place.adds for place in size.places}:
        return False
    if card.slicing.fixed:
        return (piece.memory_mib, piece.cores) == (size.memory_mib, size.cores)
    return piece.memory_mib <= size.memory_mib and piece.cores <= size.cores


def check_modes(
    holding: Holding, accepted: Collection[str], cards: Mapping[str, Card], modes: Mapping[str, CardMode]
) -> StartRefusal | None:
    """Refuse a pod on a card in a mode that it does not accept, or that no MPS daemon serves now.

    Without its daemon a CUDA program runs on the card all the same, but without its share.
    """
    for card in (cards[piece.card] for piece in holding.grant.slices if piece.card in cards):
        where = f"pod {holding.pod} was granted a slice of card {card.id}, which is in mode {card.mode.word}"
        if accepted and card.mode.value not in accepted:
            words = ", ".join(Mode(mode).word for mode in sorted(accepted))
            return StartRefusal(Why.MODE, f"{where}: the pod accepts {words} alone", lasting=False)
        mode = modes.get(card.id)
        if mode and mode.daemon and mode.problem:
            return StartRefusal(Why.MODE, f"{where}: {mode.problem}", lasting=False)
    return _one_daemon(holding, cards, modes)


def _one_daemon(holding: Holding, cards: Mapping[str, Card], modes: Mapping[str, CardMode]) -> StartRefusal | None:
    """A process reaches one daemon. Containers that have their cards whole use none."""
    for container in holding.grant.containers:
        shared = (s for s in container.slices if s.card in cards and not alone_on(s.cores, cards[s.card]))
        daemons = {modes[s.card].daemon if s.card in modes else "" for s in shared}
        if len(daemons) > 1:
            message = f"container {container.name} of pod {holding.pod} shares cards of {len(daemons)} modes or daemons"
            return StartRefusal(Why.MODE, f"{message}: a program reaches one MPS daemon")
    return None


def check_start(pod: LivePod, others: tuple[LivePod, ...], cards: Mapping[str, Card]) -> StartRefusal | None:
    """None if the pod may start. `cards` have the node's over-commitment in their memory and cores.

    If two pods together over-commit a card, exactly one is refused: the one that has not started, or the one bound
    later if neither has. A pod that has started is checked against other started pods only.
    """
    pod, *rest = (replace(one, holding=fitted(one.holding, cards)) for one in (pod, *others))
    counted = [o for o in rest if o.started or (not pod.started and o.order < pod.order)]
    uses = [(o.holding, card_uses(o.holding.grant, o.holding.stages)) for o in counted]
    for card_id, want in sorted(card_uses(pod.holding.grant, pod.holding.stages).items()):
        card = cards.get(card_id)
        if card is None:
            return StartRefusal(Why.NO_CARD, f"pod {pod.holding.pod} was granted card {card_id}, which this node lacks")
        if card.allocator is not pod.allocator and not pod.started:
            return _other_allocator(pod, card)
        if not card.healthy and not pod.started:
            message = f"card {card_id}, granted to pod {pod.holding.pod}, is unhealthy ({card.health})"
            return StartRefusal(Why.UNHEALTHY, message, lasting=False)
        sharing = [(holding, use[card_id]) for holding, use in uses if card_id in use]
        used = sum((use for _, use in sharing), NO_USE)
        room = _Room(card, want, used, tuple(h.pod for h, _ in sharing))
        refusal = _covered(pod, room) or _full(pod, room) or _alone(pod, card, [holding for holding, _ in sharing])
        if refusal:
            return refusal
    return None


def _other_allocator(pod: LivePod, card: Card) -> StartRefusal:
    whose = {
        Allocator.EXTENDER: "Kerf's scheduler hands it out",
        Allocator.DRA: "it is handed out by claims (DRA)",
        Allocator.NONE: "it is changing between Kerf's scheduler and DRA",
    }[card.allocator]
    message = f"pod {pod.holding.pod} was given a slice of card {card.id} by {pod.allocator.value}, but {whose}"
    return StartRefusal(Why.OTHER_ALLOCATOR, f"{message}: delete the pod", lasting=card.allocator is not Allocator.NONE)


def _covered(pod: LivePod, room: _Room) -> StartRefusal | None:
    """A MIG card's memory slices that are another's, whatever amounts are free."""
    card, geometry = room.card, room.card.mig
    if geometry is None:
        return None
    wanted = {digit for digit, count in enumerate(counters(room.want.places)) if count}
    for held, who in ((room.used.places, ", ".join(sorted(room.holders)[:3])), (geometry.held, "others than Kerf")):
        covered = sorted(wanted & {digit for digit, count in enumerate(counters(held)) if count})
        if covered:
            slices = ", ".join(map(str, covered))
            message = f"pod {pod.holding.pod} was granted memory slices {slices} of card {card.id}, held by {who}"
            return StartRefusal(Why.OVERCOMMIT, message, lasting=False)
    return None


def _where(piece: Slice, card: Card) -> str:
    return f" at memory slice {start_of(piece.place)}" if card.mig is not None else ""


def _full(pod: LivePod, room: _Room) -> StartRefusal | None:
    card, want, used = room.card, room.want, room.used
    largest = max((s.memory_mib for s in _slices_on(pod.holding, card.id)), default=0)
    if largest > card.factory_memory_mib:
        message = f"a slice of {show_mib(largest)} is larger than card {card.id} ({show_mib(card.factory_memory_mib)})"
        return StartRefusal(Why.OVERCOMMIT, f"pod {pod.holding.pod}: {message}")
    for has, holds, wants, unit in (
        (card.memory_mib, used.memory_mib, want.memory_mib, "MiB"),
        (card.cores, used.cores, want.cores, "% of its cores"),
        (card.slots, used.slots, want.slots, "slots"),
    ):
        if holds + wants > has:
            by = f" ({', '.join(sorted(room.holders)[:3])}{' and others' if len(room.holders) > 3 else ''})"
            message = (
                f"pod {pod.holding.pod} was granted {show(wants)} {unit} of card {card.id}, but {show(holds)} of its "
                f"{show(has)} are held{by if room.holders else ''}: {show(max(has - holds, 0))} are free"
            )
            return StartRefusal(Why.OVERCOMMIT, message, lasting=False)
    return None


def _alone(pod: LivePod, card: Card, others: list[Holding]) -> StartRefusal | None:
    owners = [h for h in (pod.holding, *others) if any(alone_on(s.cores, card) for s in _slices_on(h, card.id))]
    if not others or not owners:
        return None
    message = f"card {card.id} is granted to pod {owners[0].pod} alone and to {len(others)} more pods"
    return StartRefusal(Why.OVERCOMMIT, f"pod {pod.holding.pod}: {message}", lasting=False)


def _slices_on(holding: Holding, card: str) -> list[Slice]:
    return [piece for piece in holding.grant.slices if piece.card == card]


def _bad(holding: Holding, problem: str) -> StartRefusal:
    return StartRefusal(Why.BAD_GRANT, f"pod {holding.pod}: {problem}")


def _amount(memory_mib: int, cores: int) -> str:
    return f"{show_mib(memory_mib)} and {cores} % of the cores"
