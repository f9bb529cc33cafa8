"""Verdicts as sentences. Text is rendered here last, and nothing ever reads it back."""

from kerf.model.units import show, show_mib
from kerf.model.verdict import Misfit, Reason

_SHORT = {
    Reason.FITS: "fits",
    Reason.NO_INVENTORY: "no cards known to Kerf",
    Reason.TYPE: "no card of the wanted type",
    Reason.TOO_LARGE: "asks for more memory than a card has",
    Reason.TOO_FEW_CARDS: "too few cards",
    Reason.UNHEALTHY: "cards are unhealthy or cordoned",
    Reason.SLOTS: "no free slot on a card",
    Reason.MEMORY: "too little free card memory",
    Reason.CORES: "too few free cores",
    Reason.EXCLUSIVE: "no empty card",
    Reason.TAKEN: "cards are held exclusively",
    Reason.NUMA: "no NUMA node has enough cards free",
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
