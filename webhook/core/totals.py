"""Totals: what a container asks in all, in resources of Kerf's own that Kueue and ResourceQuota can simply add up.

Kueue counts what is stored, before any card is chosen, and knows neither percentages nor "for each card": so they are
resolved here, against the smallest card that the pod may get.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.ask import ContainerAsk, PodAsk, Selection
from kerf.values.device import Mode
from kerf.values.quota import DIMENSIONS, CardClass, amount_of
from kerf.values.units import show_mib
from kerf.values.vendor import QUOTA_DOMAIN, ResourceNames
from kerf.wire.classes import class_label
from kerf.wire.container_asks import resources_field
from kerf.wire.errors import WireError
from webhook.core.draft import Cards, Container, Draft, same_amount
from webhook.core.settings import Settings

_PREFIX = f"{QUOTA_DOMAIN}/"


def select_cards(draft: Draft, settings: Settings, tenant: TenantAccount | None) -> Draft:
    """For each vendor that the pod asks, the tenant's cards that it may get. Raises WireError if it selects none.

    While no card of the tenant is known, nothing is refused: the quota controller has not written its account yet.
    """
    if tenant is None:
        return draft
    known = [entry for entry in tenant.classes if entry.smallest_mib > 0]
    selection = draft.ask.selection.among(settings.models)
    asked = {ask.vendor for ask in draft.ask.containers}
    cards = {}
    for names in settings.words:
        if names.vendor not in asked:
            continue
        left = tuple(entry for entry in known if _takes(selection, entry, names.vendor))
        if known and not left:
            theirs = [entry for entry in known if entry.vendor == names.vendor]
            raise _nothing_left(draft.ask, tenant.name, theirs, names)
        cards[names.vendor] = Cards(tenant.name, left, tuple(settings.sample(entry) for entry in left))
    return replace(draft, cards=cards)


def settle(draft: Draft, settings: Settings) -> Draft:
    """Make every ask mean one amount, whichever card it gets. Raises WireError where it cannot.

    Limits and requests must not contradict each other, and percentages must be of cards of one size, which only
    matters where quota counts them.
    """
    warnings: list[str] = []
    by_container = []
    for container in draft.containers:
        asks = []
        for ask in container.asks:
            names, cards = settings.by_vendor[ask.vendor], draft.cards.get(ask.vendor)
            _refuse_contradiction(container, names)
            settled = _settled(container, ask, cards, names) if cards else ask
            if cards and settled is not ask:
                warnings.append(_settled_warning(container, ask, settled, cards, names))
            asks.append(settled)
        by_container.append(tuple(asks))
    if not warnings:
        return draft
    of_pod = replace(draft.ask, containers=tuple(chain.from_iterable(by_container)))
    return draft.with_asks(of_pod, by_container).warn(warnings)


def write_totals(draft: Draft, settings: Settings) -> Draft:
    """Write the totals of every container that asks for a tenant's cards, and remove all others."""
    warnings: list[str] = []
    containers = []
    for container in draft.containers:
        forged: dict[str, str | None] = dict.fromkeys(_written(container))
        wanted = forged.copy()
        for ask in container.asks:
            if cards := draft.cards.get(ask.vendor):
                wanted |= _totals(ask, cards, settings.by_vendor[ask.vendor])
        warnings += [
            f"{container.limits_field}[{name[:80]}] is counted by Kerf alone; it was removed"
            for name in forged
            if wanted[name] is None
        ]
        containers.append(container.with_amounts(wanted) if wanted else container)
    return draft.with_containers(containers).warn(warnings)


def _written(container: Container) -> Iterator[str]:
    """Names of the totals that a container was sent with."""
    return (name for name in container.amounts if name.startswith(_PREFIX))


def _totals(ask: ContainerAsk, cards: Cards, names: ResourceNames) -> dict[str, str]:
    """The totals of a settled ask by resource: cards x what it wants of each. Zeros are left out."""
    amount = amount_of(ask, cards.smallest)
    values = ((name, getattr(amount, dimension)) for name, dimension in zip(names.quota, DIMENSIONS, strict=True))
    return {name: str(value) for name, value in values if value}


def _refuse_contradiction(container: Container, names: ResourceNames) -> None:
    limits, requests = container.limits, container.requests
    for name in names.all:
        if name in limits and name in requests and not same_amount(limits[name], requests[name]):
            fix = f"the request says {str(requests[name])[:32]!r}: write the same in both, or drop the request"
            raise WireError(f"{container.limits_field}[{name}]", limits[name], fix)


def _settled(container: Container, ask: ContainerAsk, cards: Cards, names: ResourceNames) -> ContainerAsk:
    """The ask in MiB where it names a percentage of cards of several sizes, otherwise the very same ask."""
    if ask.memory_percent is None or len(cards.sizes) == 1:
        return ask
    field, value = _percentage(container, names)
    if not cards.smallest_mib:
        fix = f"no card of tenant {cards.tenant} is known yet, so its size is not: write {names.memory} in MiB"
        raise WireError(field, value, fix)
    if ask.memory_percent == 100:
        raise WireError(field, value, _name_the_kind(cards, names))
    mib = max(cards.smallest_mib * ask.memory_percent // 100, 1)
    return replace(ask, memory_mib=mib, memory_percent=None)


def _settled_warning(
    container: Container, ask: ContainerAsk, settled: ContainerAsk, cards: Cards, names: ResourceNames
) -> str:
    field, _ = _percentage(container, names)
    return (
        f"{field}: cards of several sizes would do, so {names.memory}: {settled.memory_mib} was written, "
        f"{ask.memory_percent} % of the smallest ({show_mib(cards.smallest_mib)})"
    )


def _percentage(container: Container, names: ResourceNames) -> tuple[str, object]:
    """The field that made an ask a percentage, and its value."""
    given = container.amounts
    name = next((name for name in (names.memory_percent, names.count, names.cores) if name in given), names.count)
    return f"{container.limits_field}[{name}]", str(given[name]) if name in given else None


def _name_the_kind(cards: Cards, names: ResourceNames) -> str:
    listed = ", ".join(show_mib(size) for size in cards.sizes)
    if len(cards.models) == 1:
        return f"{cards.models[0]} comes with {listed}: write {names.memory} in MiB"
    kinds = "; ".join(cards.models)
    return f"whole cards of {listed} would do, name the kind by the annotation {names.use_types}, one of: {kinds}"


def _takes(selection: Selection, entry: ClassAccount, vendor: str) -> bool:
    classes = selection.classes_of(vendor)
    if entry.vendor != vendor or (classes and entry.slug not in classes):
        return False
    return any(selection.takes(entry.model, mode) for mode in _modes_of(entry))


def _modes_of(entry: ClassAccount) -> tuple[str, ...]:
    """The modes in which cards of a class may be."""
    return CardClass(entry.vendor, entry.model, Mode(entry.mode)).modes


def _nothing_left(ask: PodAsk, tenant: str, theirs: list[ClassAccount], names: ResourceNames) -> WireError:
    """Blame the narrowest field that rules out the tenant's cards."""
    selection = ask.selection
    has = ", ".join(f"{entry.model} ({entry.mode})" for entry in theirs)
    fix = f"tenant {tenant} has quota of {has} alone: select one of these, or ask for quota of others"
    if not theirs:
        first = next(container for container in ask.containers if container.vendor == names.vendor)
        where = f"{resources_field({'name': first.name}, first.stage)}[{names.count}]"
        return WireError(where, first.cards, f"tenant {tenant} has no quota of {names.vendor} cards: ask for some")
    classes = selection.classes_of(names.vendor)
    if classes and all(entry.slug not in classes for entry in theirs):
        return WireError(f"spec.nodeSelector[{class_label(classes[0])}]", "true", fix)
    if selection.modes and not any(set(_modes_of(entry)) & set(selection.modes) for entry in theirs):
        return WireError(f"metadata.annotations[{names.modes}]", ",".join(selection.modes), fix)
    if selection.use_types:
        return WireError(f"metadata.annotations[{names.use_types}]", ",".join(selection.use_types), fix)
    return WireError(f"metadata.annotations[{names.avoid_types}]", ",".join(selection.avoid_types), fix)
