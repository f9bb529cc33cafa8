"""Does a container's slice fit on a card beside what is there, and on how many cards of a node."""

from kerf.values.alike import grouped
from kerf.values.ask import ContainerAsk, Selection
from kerf.values.device import Card, Mode
from kerf.values.grant import NO_USE, CardUse
from kerf.values.places import first_free
from kerf.values.quota import class_of
from kerf.values.slicing import Size, alone_on, size_on, sliceable
from kerf.values.verdict import FIT, Misfit, Reason, Verdict
from scheduler.core.state import CardState, NodeState

_EACH_ITS_OWN = (
    "each card has an MPS daemon of its own, so a container that shares cards holds one: ask for one card or for whole "
    "ones, or set mpsDaemon: node for the pool"
)
ONE_INSTANCE = "a program can use one MIG instance: ask for one card a container"


def accepts(selection: Selection, ask: ContainerAsk, card: Card) -> bool:
    """Whether the pod would take this card at all: vendor, id, model, mode and class."""
    if card.vendor != ask.vendor or card.id in selection.avoid_ids:
        return False
    if selection.use_ids and card.id not in selection.use_ids:
        return False
    classes = selection.classes_of(card.vendor)
    if classes and class_of(card).slug not in classes:
        return False
    return selection.takes(card.model, card.mode.value)


def slice_of(ask: ContainerAsk, card: Card) -> Size | Misfit:
    """The slice that the card gives for the ask, or why it never gives one."""
    size = size_on(ask, card)
    if size is not None:
        return size
    if not sliceable(card):
        return Misfit(Reason.NO_SLICE, detail=card.slicing.refusal)
    memory, largest = ask.memory_on(card.factory_memory_mib, card.reserved_mib), card.slicing.largest(card)
    if memory <= largest.memory_mib and ask.cards > 1 and not card.joint:
        return Misfit(Reason.NO_SLICE, detail=ONE_INSTANCE if card.mode is Mode.MIG else _EACH_ITS_OWN)
    if memory <= largest.memory_mib and ask.cores > largest.cores:
        return Misfit(Reason.NO_SLICE, detail=f"{card.model} gives at most {largest.cores} % of its cores")
    if memory <= largest.memory_mib:
        return Misfit(
            Reason.NO_SLICE, detail=f"{card.model}: {card.slicing.unanswered(ask) or 'no slice answers this'}"
        )
    return Misfit(Reason.TOO_LARGE, memory, largest.memory_mib, card.model)


def fit(
    ask: ContainerAsk,
    selection: Selection,
    state: CardState,
    *,
    mutex: bool = False,
    held: CardUse = NO_USE,
    size: Size | None = None,
) -> Verdict:
    """Whether one more slice fits on the card, `held` being what the pod's own containers hold there meanwhile.

    `size` is the slice that the card gives, where the caller knows it. The checks run in the order of `Reason`; numbers
    are MiB, percent of SMs, slots or cards depending on the reason.
    """
    card = state.card
    if not accepts(selection, ask, card):
        return Misfit(Reason.TYPE, 1, 0, card.model)
    given = size or slice_of(ask, card)
    if isinstance(given, Misfit):
        return given
    if not state.usable:
        return Misfit(Reason.UNHEALTHY, 1, 0, card.id)
    return _room(given, state, held, alone_on(given.cores, card, mutex))


def _room(size: Size, state: CardState, held: CardUse, alone: bool) -> Verdict:
    free = state.free - held
    if free.slots < 1:
        return Misfit(Reason.SLOTS, 1, max(free.slots, 0), state.card.id)
    if size.memory_mib > free.memory_mib:
        return Misfit(Reason.MEMORY, size.memory_mib, max(free.memory_mib, 0), state.card.id)
    if size.cores > free.cores:
        return Misfit(Reason.CORES, size.cores, max(free.cores, 0), state.card.id)
    if size.places and first_free(size.places, state.used.places + held.places) is None:
        return Misfit(Reason.PLACE, 1, 0, state.card.id)
    if alone and state.used.slots + held.slots > 0:
        return Misfit(Reason.EXCLUSIVE, 1, 0, state.card.id)
    if size.cores == 0 and state.used.cores >= state.card.cores > 0:
        return Misfit(Reason.TAKEN, 1, 0, state.card.id)
    return FIT


def fit_alone(ask: ContainerAsk, selection: Selection, node: NodeState, *, mutex: bool = False) -> Verdict:
    """Whether the container finds its distinct cards on the node if it is the pod's only one.

    The reason is the first check, in the order of `Reason`, that leaves fewer cards than asked. For amounts (MiB,
    percent), `free` is what the ask would have to shrink to for that check to leave enough.
    """
    if not node.cards or (node.problem and all(state.card.vendor != ask.vendor for state in node.cards)):
        return Misfit(Reason.NO_INVENTORY, ask.cards, 0, node.problem)
    verdicts = [fit(ask, selection, state, mutex=mutex) for state in node.cards]
    left = len(verdicts)
    for reason in Reason:
        failed = [v for v in verdicts if isinstance(v, Misfit) and v.reason is reason]
        if failed and (left == len(failed) if reason <= Reason.TOO_LARGE else left - len(failed) < ask.cards):
            return _blame(ask, failed, left - len(failed))
        left -= len(failed)
        if reason is Reason.TOO_LARGE and left < ask.cards:
            return Misfit(Reason.TOO_FEW_CARDS, ask.cards, left, ask.name)
    return _apart(ask, selection, node, verdicts)


def _blame(ask: ContainerAsk, failed: list[Misfit], left: int) -> Misfit:
    reason = failed[0].reason
    if reason is Reason.NO_SLICE:
        return failed[0]
    if reason not in {Reason.TOO_LARGE, Reason.MEMORY, Reason.CORES}:
        return Misfit(reason, ask.cards, left, ask.name)
    nearest = sorted(failed, key=lambda misfit: misfit.free - misfit.asked, reverse=True)
    last_needed = nearest[min(ask.cards - left, len(nearest)) - 1]
    return Misfit(reason, last_needed.asked, last_needed.free, ask.name)


def _apart(ask: ContainerAsk, selection: Selection, node: NodeState, verdicts: list[Verdict]) -> Verdict:
    fitting = [state.card for state, verdict in zip(node.cards, verdicts, strict=True) if verdict is FIT]
    most = max(map(len, grouped(selection, ask.cards, fitting)))
    if most >= ask.cards:
        return FIT
    return Misfit(Reason.MODEL if selection.same_model else Reason.NUMA, ask.cards, most, ask.name)
