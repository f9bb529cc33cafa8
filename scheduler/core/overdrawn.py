"""Sentences for a quota that has no room: who, how much of what, and how much is left."""

from kerf.model.quota import Amount, Bound
from kerf.model.units import show, show_mib
from kerf.model.verdict import Misfit, Reason

State = tuple[Bound, Amount, Amount]
"""The limit, what is held, what is asked on top."""
Broken = tuple[str, int]
"""The dimension and what is left of it."""


def overdrawn(tenant: str, model: str, state: State, broken: Broken) -> Misfit:
    """A tenant's quota of one class of cards has no room."""
    return _misfit(f"tenant {tenant}", f" of {model}", state, broken)


def overdrawn_namespace(namespace: str, quota: str, vendor: str, state: State, broken: Broken) -> Misfit:
    """A namespace's ResourceQuota has no room."""
    return _misfit(f"namespace {namespace} (ResourceQuota {quota})", f" of {vendor} cards", state, broken)


def amount_text(dimension: str, value: int) -> str:
    """A number with its unit."""
    match dimension:
        case "memory_mib":
            return show_mib(value)
        case "cores":
            return f"{show(value)} % of cores"
        case _:
            return f"{show(value)} {'card' if value == 1 else 'cards'}"


def _misfit(who: str, of: str, state: State, broken: Broken) -> Misfit:
    limit, held, asked = state
    dimension, left = broken
    most, wanted = limit.of(dimension) or 0, getattr(asked, dimension)
    holds = amount_text(dimension, getattr(held, dimension))
    sentence = (
        f"quota: {who} holds {holds} of at most {amount_text(dimension, most)}{of}; "
        f"{amount_text(dimension, wanted)} asked, {amount_text(dimension, left)} would fit"
    )
    return Misfit(Reason.QUOTA, wanted, left, sentence)
