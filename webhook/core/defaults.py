"""Defaults: what is stored on a pod says what the scheduler will read and charge."""

from dataclasses import replace

from kerf.values.ask import ContainerAsk
from kerf.values.units import parse_quantity, show_mib
from kerf.values.words import ResourceNames
from kerf.wire.container_asks import asks_for
from kerf.wire.errors import WireError
from webhook.core.draft import Container, Draft, changed
from webhook.core.settings import Settings

DEFAULT_SCHEDULERS = frozenset({"", "default-scheduler"})


def refuse_foreign_scheduler(draft: Draft, settings: Settings) -> None:
    """Only Kerf's scheduler divides cards: another one would bind the pod without a grant, and it would never start."""
    scheduler = str(draft.scheduler_name or "")
    if scheduler not in {*DEFAULT_SCHEDULERS, settings.scheduler_name, *settings.allowed_schedulers}:
        raise WireError(
            "spec.schedulerName", scheduler[:63], f"it cannot divide cards: drop it, or write {settings.scheduler_name}"
        )


def set_scheduler(draft: Draft, settings: Settings) -> Draft:
    """Name Kerf's scheduler where no other is named. Raises WireError for a scheduler that cannot divide cards."""
    refuse_foreign_scheduler(draft, settings)
    if str(draft.scheduler_name or "") not in DEFAULT_SCHEDULERS:
        return draft
    return replace(draft, scheduler_name=settings.scheduler_name)


def set_runtime_class(draft: Draft, settings: Settings) -> Draft:
    """Name the RuntimeClass of the pod's cards where the pod names none. Raises WireError where its cards need two."""
    wanted = _runtime_classes(draft, settings)
    if draft.runtime_class or not wanted:
        return draft
    if len(wanted) > 1:
        needs = " and ".join(f"{vendor}'s cards need {name}" for name, vendor in wanted.items())
        fix = f"{needs}, and a pod has one class: name the one that serves all its containers, or make a pod of each"
        raise WireError("spec.runtimeClassName", "", fix)
    return replace(draft, runtime_class=next(iter(wanted)))


def keep_runtime_class(draft: Draft, old: Draft, settings: Settings) -> Draft:
    """The draft with the RuntimeClass that Kerf wrote before, where the new version names none."""
    known = old.runtime_class in _runtime_classes(old, settings)
    return replace(draft, runtime_class=old.runtime_class) if known and not draft.runtime_class else draft


def drop_runtime_class(draft: Draft, old: Draft, settings: Settings) -> Draft:
    """The draft without the RuntimeClass that Kerf wrote for cards for which it asks no more."""
    wanted = _runtime_classes(draft, settings)
    stale = draft.runtime_class == old.runtime_class and old.runtime_class in _runtime_classes(old, settings)
    return replace(draft, runtime_class=None) if wanted and stale and draft.runtime_class not in wanted else draft


def _runtime_classes(draft: Draft, settings: Settings) -> dict[str, str]:
    """The RuntimeClasses of the cards for which the draft asks, each with the vendor that needs it."""
    return {
        settings.runtime_classes[names.vendor]: names.vendor
        for names in settings.words
        if names.vendor in settings.runtime_classes
        and any(asks_for(container.amounts, names) for container in draft.containers)
    }


def fill(draft: Draft, settings: Settings) -> Draft:
    """Write what each container asks into its limits and requests, and its task priority into its environment."""
    warnings: list[str] = []
    containers = []
    for container in draft.containers:
        filled = container
        for ask in container.asks:
            names = settings.by_vendor[ask.vendor]
            refuse_percentages(container, names)
            warnings += _warnings(container, ask, names)
            filled = _filled(filled, ask, names)
        containers.append(filled)
    return _annotated(draft.with_containers(containers), settings).warn(warnings)


def _annotated(draft: Draft, settings: Settings) -> Draft:
    """The draft with the annotations that the vendors' own plugins expect of such a pod."""
    notes: dict[str, str] = {}
    for vendor in dict.fromkeys(ask.vendor for ask in draft.ask.containers):
        asks = tuple(ask for ask in draft.ask.containers if ask.vendor == vendor)
        notes |= settings.by_vendor[vendor].notes(asks, draft.annotations)
    return replace(draft, annotations=changed(draft.annotations, notes))


def task_priorities(draft: Draft, settings: Settings) -> list[tuple[str, str, int]]:
    """The task priorities that containers name."""
    return [
        (container.part, container.name, _number(container, names.priority))
        for container in draft.containers
        for names in settings.words
        if names.priority in container.amounts
    ]


def _filled(container: Container, ask: ContainerAsk, names: ResourceNames) -> Container:
    given = {name: str(container.amounts[name]) for name in names.all if name in container.amounts}
    filled = container.with_amounts(given | _resolved(container, ask, names))
    if names.name_env and filled.env_value(names.name_env) is None:
        filled = filled.with_env(names.name_env, container.name)
    if not names.priority_env or names.priority not in given:
        return filled
    return filled.with_env(names.priority_env, str(_number(container, names.priority)))


def _resolved(container: Container, ask: ContainerAsk, names: ResourceNames) -> dict[str, str | None]:
    """What the ask says beyond, or instead of, what was sent. None drops a resource that counts for nothing."""
    out: dict[str, str | None] = {}
    cards, together = ask.cards * names.count_unit, ask.cards if names.totals else 1
    writable = {name for name in names.all if name in container.amounts or names.fills}
    writable |= {names.count} if names.adds_count else set()
    if names.counts_cards and names.count in writable and _number(container, names.count) != cards:
        out[names.count] = str(cards)
    memory = ask.memory_mib if names.memory in writable else None
    if memory is not None and _mib(container, names) != memory * together:
        out[names.memory] = names.memory_text(memory * together)
    if memory is not None and _number(container, names.memory_percent):
        out[names.memory_percent] = None
    cores = names.core_units(ask.cores) * together if names.cores in writable else 0
    if cores and _number(container, names.cores) != cores:
        out[names.cores] = str(cores)
    return out


def _warnings(container: Container, ask: ContainerAsk, names: ResourceNames) -> list[str]:
    """What was adjusted for compatibility with HAMi, and what becomes of an ask that the vendor rounds."""
    out = _rounded(container, ask, names)
    most = names.card_cores * (ask.cards if names.totals else 1)
    if _number(container, names.memory) and _number(container, names.memory_percent):
        out.append(f"{container.limits_field}: {names.memory} wins over {names.memory_percent}, which was dropped")
    if _number(container, names.cores) > most:
        field, given = f"{container.limits_field}[{names.cores}]", container.amounts[names.cores]
        out.append(f"{field}: a card has {most}, so {most} was written for {given}")
    return out


def _rounded(container: Container, ask: ContainerAsk, names: ResourceNames) -> list[str]:
    """What was asked, what it became and why, for each amount that the vendor's rules raise."""
    remark, asked = names.remarks(ask), _mib(container, names)
    together = ask.cards if names.totals else 1
    raised = names.rounds_when_placed or asked != (ask.memory_mib or 0) * together
    out = []
    if remark and raised and (asked or ask.memory_mib is not None):
        said = names.memory if names.memory in container.amounts else names.count
        out.append(f"{container.limits_field}[{said}]: {f'{show_mib(asked)} asked: ' if asked else ''}{remark}")
    for name, became in _resolved(container, ask, names).items():
        given = 0 if name == names.memory else _number(container, name)
        if given and became is not None and int(parse_quantity(became)) > given:
            out.append(
                f"{container.limits_field}[{name}]: {given} asked, {became} written: {remark or 'cards give no less'}"
            )
    return out


def refuse_percentages(container: Container, names: ResourceNames) -> None:
    """A percentage of memory where the vendor has none would be ignored. Raises WireError."""
    for name, value in container.amounts.items():
        if name.startswith(f"{names.domain}/") and name.endswith("percentage") and name not in names.all:
            fix = f"no percentage can be asked of these cards: write {names.memory}" if names.memory else "drop it"
            raise WireError(f"{container.limits_field}[{name}]", value, fix)


def _number(container: Container, name: str) -> int:
    return int(parse_quantity(container.amounts[name])) if name in container.amounts else 0


def _mib(container: Container, names: ResourceNames) -> int:
    return names.mib(container.amounts[names.memory]) if names.memory in container.amounts else 0
