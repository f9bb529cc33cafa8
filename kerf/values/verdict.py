"""Verdicts: a "no" is data, with numbers; text is rendered from it last and never parsed back."""

from dataclasses import dataclass
from enum import IntEnum


class Reason(IntEnum):
    """Why an ask does not fit. The order is the order of the checks: an earlier reason hides later ones."""

    FITS = 0
    NO_INVENTORY = 1  # the node has no (readable) cards
    TYPE = 2  # no card of an accepted model, id or mode
    NO_SLICE = 3  # Kerf does not slice such cards, or never into such slices
    TOO_LARGE = 4  # the card's hardware is smaller than the ask: waiting will not help
    TOO_FEW_CARDS = 5  # the node has fewer cards than asked: waiting will not help
    UNHEALTHY = 6  # cards are unhealthy or cordoned
    SLOTS = 7
    MEMORY = 8
    CORES = 9
    PLACE = 10  # memory and cores are free, but not where the slice could lie, or not beside what is there
    EXCLUSIVE = 11  # wants the card for itself, others hold slices of it
    TAKEN = 12  # another pod holds the card for itself
    NUMA = 13
    MODEL = 14  # cards of one model
    TOPOLOGY = 15
    NODE = 16  # the node's CPU or memory
    JOINT = 17  # each container fits alone, together they do not
    RESERVED = 18  # held for a gang or an admitted workload
    QUOTA = 19  # the tenant's quota


FOREVER = frozenset({Reason.NO_INVENTORY, Reason.TYPE, Reason.NO_SLICE, Reason.TOO_LARGE, Reason.TOO_FEW_CARDS})
"""Reasons that no waiting, preemption or eviction on the node can cure."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A "no": the reason, what was asked and what was free, in the reason's own unit (MiB, percent, cards, slots)."""

    reason: Reason
    asked: int = 0
    free: int = 0
    detail: str = ""
    """What else a reader needs: a container's name, a model, a card's id."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A "yes"."""


FIT = Fit()
Verdict = Fit | Misfit
