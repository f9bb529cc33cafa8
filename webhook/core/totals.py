"""Totals: what a container asks in all, in resources of Kerf's own that Kueue and ResourceQuota can simply add up.

Kueue counts what is stored, before any card is chosen, and knows neither percentages nor "for each card": so they are
resolved here, against the smallest card that the pod may get.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerf.values.ask import ContainerAsk
from kerf.values.quota import DIMENSIONS, CardClass, a_card_of, amount_of
from kerf.values.units import show_mib
from kerf.values.vendor import QUOTA_DOMAIN, ResourceNames
from kerf.wire.errors import WireError
from webhook.core.classes import Cards
from webhook.core.edits import child

Json = Mapping[str, Any]
_PREFIX = f"{QUOTA_DOMAIN}/"


@dataclass(frozen=True, slots=True)
class Settled:
    """An ask that means one amount whichever card it gets, and what its user should know."""

    ask: ContainerAsk
    warnings: tuple[str, ...] = ()


def settle(ask: ContainerAsk, cards: Cards, given: Mapping[str, Any], names: ResourceNames, where: str) -> Settled:
    """Make a percentage mean one amount of MiB, or refuse it. Raises WireError.

    `given` is what the container says of this vendor, `where` the path of its limits.
    """
    if ask.memory_percent is None:
        return Settled(ask)
    if cards.smallest_mib and cards.one_size:
        return Settled(ask)
    said = next((name for name in (names.memory_percent, names.count, names.cores) if name in given), names.count)
    field, value = f"{where}[{said}]", given.get(said)
    if not cards.smallest_mib:
        fix = f"no card of tenant {cards.tenant} is known yet, so its size is not: write {names.memory} in MiB"
        raise WireError(field, value, fix)
    if ask.memory_percent == 100:
        raise WireError(field, value, _name_the_kind(cards, names))
    mib = max(cards.smallest_mib * ask.memory_percent // 100, 1)
    warning = (
        f"{field}: cards of several sizes would do, so {names.memory}: {mib} was written, "
        f"{ask.memory_percent} % of the smallest ({show_mib(cards.smallest_mib)})"
    )
    return Settled(replace(ask, memory_mib=mib, memory_percent=None), (warning,))


def render_totals(ask: ContainerAsk, cards: Cards, names: ResourceNames) -> dict[str, str]:
    """The totals of a settled ask by resource name: cards x what it wants of each. Zeros are left out."""
    amount = amount_of(ask, a_card_of(CardClass(ask.vendor, ""), cards.smallest_mib))
    values = ((name, getattr(amount, dimension)) for name, dimension in zip(names.quota, DIMENSIONS, strict=True))
    return {name: str(value) for name, value in values if value}


def written_totals(container: Json) -> Iterator[str]:
    """Names of the totals that stand on a container, whoever wrote them, each once."""
    resources = child(container, "resources")
    names = (name for part in ("limits", "requests") for name in child(resources, part))
    return (name for name in dict.fromkeys(names) if isinstance(name, str) and name.startswith(_PREFIX))


def _name_the_kind(cards: Cards, names: ResourceNames) -> str:
    sizes = sorted({size for entry in cards.classes for size in (entry.smallest_mib, entry.largest_mib)})
    listed = ", ".join(show_mib(size) for size in sizes)
    if len(cards.models) == 1:
        return f"{cards.models[0]} comes with {listed}: write {names.memory} in MiB"
    kinds = "; ".join(cards.models)
    return f"whole cards of {listed} would do, name the kind by the annotation {names.use_types}, one of: {kinds}"
