"""Tenants' accounts, and the classes of cards behind them."""

from dataclasses import dataclass
from typing import Any

from kerf.values.accounts import TenantAccount
from kerf.values.quota import DIMENSIONS, Amount, CardClass
from kerf.wire.accounts import render_status

_KEYS = {"memory_mib": "memoryMiB", "cores": "cores", "cards": "cards"}


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A class of cards: its live cards, what they give, and the rest that no tenant is guaranteed."""

    card_class: CardClass
    cards: int
    total: Amount
    rest: Amount


def account_json(account: TenantAccount) -> dict[str, Any]:
    """An account as the object's status has it, with the tenant's name, its namespaces and the problems of its file."""
    status = render_status(account, 0)
    del status["observedGeneration"]
    return {
        "name": account.name,
        "namespaces": list(account.namespaces),
        "problems": list(account.problems),
        **status,
    }


def class_json(line: ClassLine) -> dict[str, Any]:
    """The JSON form of a class."""
    key = line.card_class
    return {
        "class": key.slug,
        "vendor": key.vendor,
        "model": key.model,
        "mode": key.mode.value,
        "cards": line.cards,
        "total": _amount_json(line.total),
        "rest": _amount_json(line.rest),
    }


def _amount_json(amount: Amount) -> dict[str, int]:
    return {_KEYS[name]: getattr(amount, name) for name in DIMENSIONS}
