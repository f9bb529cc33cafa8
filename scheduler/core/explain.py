"""Verdicts as sentences. Text is rendered here last, and nothing ever reads it back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kerf.values.ask import ContainerAsk, PodAsk
from kerf.values.card_names import listed
from kerf.values.device import Mode
from kerf.values.places import counters
from kerf.values.slicing import Exactly, Size, Slicing, Templates, size_on
from kerf.values.units import show, show_mib
from kerf.values.verdict import Misfit, Reason
from scheduler.core.nearest import Change, Field, Try, blamed, nearest_row, smallest_change

Counts = tuple[tuple[Reason, int], ...]
"""Nodes by reason, the most frequent first."""
_MOST_NAMED = 3  # containers and reasons that a sentence spells out
_MOST_AMOUNTS = 4

_SHORT = {
    Reason.FITS: "fits",
    Reason.NO_INVENTORY: "no cards known to Kerf",
    Reason.TYPE: "no card of the wanted type",
    Reason.NO_SLICE: "no card that Kerf slices so",
    Reason.TOO_LARGE: "asks for more memory than a card has",
    Reason.TOO_FEW_CARDS: "too few cards",
    Reason.UNHEALTHY: "cards are unhealthy, cordoned, handed out by claims (DRA) or held without a grant",
    Reason.SLOTS: "no free slot on a card",
    Reason.MEMORY: "too little free card memory",
    Reason.CORES: "too few free cores",
    Reason.PLACE: "no free place on a card for such a slice",
    Reason.EXCLUSIVE: "no card that no other pod uses",
    Reason.TAKEN: "cards are held exclusively",
    Reason.NUMA: "no NUMA node has enough cards free",
    Reason.MODEL: "too few cards of one model are free",
    Reason.TOPOLOGY: "no linked cards are free",
    Reason.NODE: "node's CPU or memory is short",
    Reason.JOINT: "containers do not fit together",
    Reason.RESERVED: "room is reserved",
    Reason.QUOTA: "tenant's quota is used up",
}


def short_reason(reason: Reason) -> str:
    """A reason without numbers: kube-scheduler counts nodes by equal texts."""
    return _SHORT[reason]


def explain_misfit(misfit: Misfit) -> str:
    """One node's "no" with its numbers."""
    match misfit.reason:
        case Reason.QUOTA:
            return misfit.detail
        case Reason.MEMORY | Reason.TOO_LARGE:
            numbers = f": {show_mib(misfit.asked)} asked, {show_mib(max(misfit.free, 0))} free"
        case Reason.CORES:
            numbers = f": {misfit.asked} % asked, {max(misfit.free, 0)} % free"
        case _ if misfit.asked or misfit.free:
            numbers = f": {show(misfit.asked)} asked, {show(max(misfit.free, 0))} free"
        case _:
            numbers = ""
    detail = f" ({misfit.detail})" if misfit.detail else ""
    return f"{short_reason(misfit.reason)}{numbers}{detail}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pod fits nowhere: nodes by reason, the nearest node ("" if there is none), and all of it in a sentence."""

    counts: Counts
    node: str
    sentence: str
    change: Change | None = None
    fix: str = ""
    """The change in words, which is part of the sentence too."""


def explain(field: Field, counts: Counts, attempt: Try, name: Callable[[int], str]) -> Explanation:
    """Explain a refusal. `name` gives a row's node; the sentence's length does not grow with the fleet."""
    wanted = f"needs {_wants(field.ask)}"
    if not len(field.rows):
        return Explanation(counts, "", f"{wanted}; no node was offered that has cards")
    position = nearest_row(field)
    row = int(field.rows[position])
    miss = attempt(field.ask, row)
    if not isinstance(miss, Misfit):
        return Explanation(counts, name(row), f"{wanted}; fits on {name(row)} now")
    change = smallest_change(field, attempt)
    parts = [wanted, _nearest(field, position, miss, name(row))]
    fix = "" if change is None else _advice(field, change, name(change.row))
    return Explanation(counts, name(row), f"{'; '.join(filter(None, (*parts, fix)))}{_tail(counts)}", change, fix)


def _wants(ask: PodAsk) -> str:
    containers = ask.containers
    if len(containers) == 1:
        return _slice_text(containers[0])
    named = [f"{_slice_text(container)} for {container.name}" for container in containers[:_MOST_NAMED]]
    more = len(containers) - len(named)
    return ", ".join(named) + (f" and more for {more} further containers" if more else "") or "no card"


def _slice_text(ask: ContainerAsk) -> str:
    where = "one card" if ask.cards == 1 else f"{ask.cards} cards of one node"
    if ask.memory_percent == 100 and ask.exclusive:
        return f"{where} for itself"
    memory = show_mib(ask.memory_mib) if ask.memory_mib is not None else f"{ask.memory_percent} % of the memory"
    cores = f" and {ask.cores} % of the cores" if ask.cores else ""
    return f"{memory}{cores} on {where}"


def _nearest(field: Field, position: int, miss: Misfit, node: str) -> str:
    """What the nearest node has."""
    if not field.wanted:  # no card is asked for, so only the node itself refuses
        return f"best node {node}: {_node_text(miss)}"
    columns, index = field.columns, blamed(field)
    usable = field.wanted[index].accepted[position] & columns.usable[position] & columns.present[position]
    if field.preference.mutex and Reason.UNHEALTHY < miss.reason < Reason.EXCLUSIVE:
        idle = int((usable & (columns.used_slots[position] == 0)).sum())
        if idle < field.ask.containers[index].cards:  # more room on a card that others use would not help
            return f"it wants cards to itself, and of best node {node} {idle} have no other pod"
    memory = (columns.memory[position] - columns.used_memory[position])[usable].tolist()
    cores = (columns.cores[position] - columns.used_cores[position])[usable].tolist()
    texts = {
        Reason.MEMORY: f"best node {node} has {_amounts(memory)} MiB free",
        Reason.CORES: f"best node {node} has {_amounts(cores)} % of cores free",
        Reason.TOO_LARGE: f"the largest such card, on {node}, has {show_mib(miss.free)}",
        Reason.TYPE: f"no card is of the vendor, type, id or mode that it selects ({_chosen(field)})",
        Reason.NO_SLICE: f"best node {node}: {short_reason(miss.reason)} ({miss.detail})",
        Reason.PLACE: f"best node {node} has {_amounts(memory)} MiB free, but {_no_place(field, index, position)}",
        Reason.EXCLUSIVE: f"it wants cards to itself, and of best node {node} {show(miss.free)} have no other pod",
        Reason.TOO_FEW_CARDS: f"the largest node, {node}, has {show(miss.free)} such cards",
        Reason.NODE: f"best node {node}: {_node_text(miss)}",
        Reason.JOINT: f"together they exceed best node {node}, which has {_amounts(memory)} MiB free",
    }
    amount = f" has {show(miss.free)} of {show(miss.asked)}" if miss.asked else ""
    unread = f": {miss.detail}" if miss.reason is Reason.NO_INVENTORY and miss.detail else ""
    return texts.get(miss.reason, f"best node {node}{amount}: {short_reason(miss.reason)}{unread}")


def _no_place(field: Field, index: int, position: int) -> str:
    """Which slice finds no place on the cards of a row, and what is free on the first of them that have memory."""
    columns, ask = field.columns, field.ask.containers[index]
    found: list[str] = []
    strangers: list[str] = []
    for column in np.flatnonzero(columns.present[position] & columns.usable[position]).tolist():
        card = field.kinds[int(columns.kind[position, column])]
        size = size_on(ask, card)
        if size is None or not field.wanted[index].accepted[position, column]:
            continue
        held = int(columns.used_places[position, column])
        if card.mig is None:
            strangers += _strangers(card.slicing, size, ask, held, column)
            continue
        inside = counters(sum(place.adds for place in size.places))
        free = [str(n) for n, (has, may) in enumerate(zip(counters(held), inside, strict=True)) if may and not has]
        found.append(f"card {column} has only {', '.join(free) or 'none'} of the places that {size.name} could cover")
    more = f"; and {len(found) - _MOST_NAMED} more cards" if len(found) > _MOST_NAMED else ""
    said = "; ".join(found[:_MOST_NAMED])
    if not said:
        return ": ".join(filter(None, (short_reason(Reason.PLACE), "; ".join(strangers[:_MOST_NAMED]))))
    return f"no place for the slice ({said}{more}): moving an instance can make one (kerf repack --for {field.ask.key})"


def _strangers(slicing: Slicing, size: Size, ask: ContainerAsk, held: int, column: int) -> list[str]:
    """The slices of a card beside which this one may not lie, where they are of other groups or sizes."""
    inside = [i for i, count in enumerate(counters(held)) if count]
    if isinstance(slicing, Exactly) and slicing.groups:
        names = " and ".join(slicing.groups[i][0] for i in inside)
        return (
            [f"card {column} is used by pods of {names}, and a pod of {ask.group} does not join them"] if names else []
        )
    if isinstance(slicing, Templates) and slicing.alike and inside:
        sizes = " and ".join(show_mib(one.memory_mib) for i, one in enumerate(slicing.templates) if i in inside)
        held_text = f"slices of {sizes}" if sizes else "a pod that has all of it"
        return [f"card {column} has {held_text}, and takes none of {show_mib(size.memory_mib)} beside"]
    return []


def _amounts(values: list[int]) -> str:
    ordered = [show(max(value, 0)) for value in sorted(values, reverse=True)]
    if len(ordered) > _MOST_AMOUNTS:
        ordered = [*ordered[: _MOST_AMOUNTS - 1], "less"]
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered) or "0"


def _selected(ask: PodAsk) -> str:
    selection = ask.selection
    rules = {
        "id": selection.use_ids,
        "not id": selection.avoid_ids,
        "type": selection.use_types,
        "not type": selection.avoid_types,
        "mode": tuple(Mode(mode).word for mode in selection.modes),
        "class": selection.classes,
    }
    named = [f"{rule} {' or '.join(values[:_MOST_NAMED])}" for rule, values in rules.items() if values]
    return ", ".join(named) or f"vendor {ask.containers[0].vendor}"


def _chosen(field: Field) -> str:
    """What the pod selects and, where it names a type, the models that it could have named."""
    if not field.ask.selection.use_types:
        return _selected(field.ask)
    vendors = {container.vendor for container in field.ask.containers}
    known = listed(card.model for card in field.kinds if card.vendor in vendors)
    return f"{_selected(field.ask)}; known models: {known}"


def _node_text(miss: Misfit) -> str:
    if miss.detail == "cpu":
        return f"{show(miss.asked)} thousandths of a core asked, {show(miss.free)} free"
    if miss.detail == "memory":
        return f"{show_mib(miss.asked)} of node memory asked, {show_mib(miss.free)} free"
    return "it is cordoned"


def _advice(field: Field, change: Change, node: str) -> str:
    of = f" for {change.container}" if len(field.ask.containers) > 1 and change.container else ""
    match change.what:
        case "memory":
            return f"{show_mib(change.to)}{of} would fit on {node}"
        case "slice":
            return f"a slice of {show_mib(change.to)}{of} would fit on {node}"
        case "cores":
            return f"{change.to} % of the cores{of} would fit on {node}"
        case "cards":
            return f"{change.to} {'card' if change.to == 1 else 'cards'}{of} would fit on {node}"
        case "numa":
            return f"without numa-bind it would fit on {node}"
        case "model":
            return f'with kerf.dev/same-card-model: "false" it would fit on {node}'
        case "topology":
            return f"without the topology policy it would fit on {node}"
        case _:
            return f"without its card selection it would fit on {node}"


def _tail(counts: Counts) -> str:
    total = int(np.sum([count for _, count in counts]))
    if total < 2:
        return ""
    parts = [f"{show(count)} {short_reason(reason)}" for reason, count in counts[:_MOST_NAMED]]
    rest = total - sum(count for _, count in counts[:_MOST_NAMED])
    more = [f"{show(rest)} other"] if rest else []
    return f" ({show(total)} nodes: {', '.join(parts + more)})"
