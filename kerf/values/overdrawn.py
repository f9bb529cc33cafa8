"""Sentences for a quota that has no room: who, how much of what, and how much is left."""

from dataclasses import replace

from kerf.values.hard_quota import HardLimit
from kerf.values.quota import Amount, Bound
from kerf.values.units import show, show_mib
from kerf.values.verdict import Misfit, Reason

MOST_PROBLEMS = 3
"""Sentences about a tenant's file in one refusal."""
State = tuple[Bound, Amount, Amount]
"""The limit, what is held, what is asked on top."""
Broken = tuple[str, int]
"""The dimension and what is left of it."""


def overdrawn(tenant: str, model: str, state: State, broken: Broken, *, holds: str = "holds") -> Misfit:
    """A tenant's quota of one class of cards has no room. `holds` is the verb: who admits counts waiting pods too."""
    return _misfit(f"tenant {tenant} {holds}", f" of {model}", state, broken)


def overdrawn_namespace(namespace: str, quota: HardLimit, vendor: str, state: State, broken: Broken) -> Misfit:
    """A namespace's ResourceQuota has no room. What of it is not counted as it is written is said as well."""
    who = f"namespace {namespace} (ResourceQuota {quota.name}) holds"
    found = _misfit(who, f" of {vendor} cards", state, broken)
    return replace(found, detail="; ".join((found.detail, *quota.problems)))


def overdrawn_rest(model: str, state: State, broken: Broken) -> Misfit:
    """Namespaces without a tenant have no room beside what tenants keep for themselves."""
    found = _misfit("namespaces without a tenant hold", f" of {model}", state, broken)
    return replace(found, detail=f"{found.detail}; tenants do not lend the rest")


def beyond(tenant: str, model: str, limit: Bound, asked: Amount, dimension: str) -> Misfit:
    """A single ask exceeds all that a tenant may ever hold of one class of cards."""
    most, wanted = limit.of(dimension) or 0, getattr(asked, dimension)
    sentence = (
        f"quota: tenant {tenant} may hold at most {amount_text(dimension, most)} of {model}; "
        f"{amount_text(dimension, wanted)} asked for one pod: waiting will not help, ask for less or for more quota"
    )
    return Misfit(Reason.QUOTA, wanted, most, sentence)


def holds_nothing(tenant: str, problems: tuple[str, ...]) -> Misfit:
    """Nothing of a tenant's file can be kept, so it may hold no card."""
    why = "; ".join(problems[:MOST_PROBLEMS]) or "its file names no card"
    return Misfit(Reason.QUOTA, 1, 0, f"quota: tenant {tenant} may hold no card: {why}")


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
    has = amount_text(dimension, getattr(held, dimension))
    sentence = (
        f"quota: {who} {has} of at most {amount_text(dimension, most)}{of}; "
        f"{amount_text(dimension, wanted)} asked, {amount_text(dimension, left)} would fit"
    )
    return Misfit(Reason.QUOTA, wanted, left, sentence)
