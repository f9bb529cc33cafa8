"""Pods that accept several kinds of cards, `kerf.dev/accepts`: the pod as it would be on each, and the one it is given.

A pod's resources cannot change once it is stored, so the kind is chosen when the pod is made. Templates keep what they
say. What a pod was given is noted in `kerf.dev/chosen`, so that a second review changes nothing.
"""

from dataclasses import replace

from kerf.sizing.named import MODEL, parse_named
from kerf.values.accepts import Accept, Accepts, AcceptsMode, Changes, Chosen
from kerf.values.accounts import TenantAccount
from kerf.values.ask import Stage
from kerf.values.policy import QuotaEngine
from kerf.values.words import ResourceNames
from kerf.wire.accepts import ACCEPTS, CHOSEN, WHERE, WHERE_WITH, parse_accepts, parse_chosen, render_chosen
from kerf.wire.errors import WireError
from webhook.core.draft import Container, Draft, changed, same_amount
from webhook.core.models import size_model
from webhook.core.rules import opted_out
from webhook.core.settings import Settings

QUEUED_WHOLE = frozenset({("batch", "Job"), ("batch", "CronJob"), ("jobset.x-k8s.io", "JobSet"),
                          ("leaderworkerset.x-k8s.io", "LeaderWorkerSet")})  # fmt: skip
"""Owners whose templates Kueue counts, before there is a pod."""


def accepts_of(draft: Draft, settings: Settings, tenant: TenantAccount | None) -> Accepts | None:
    """The kinds that a pod or template accepts; None where it does not choose, or opted out. Raises WireError."""
    if opted_out(draft, settings, tenant):
        return None
    accepts = parse_accepts(draft.annotations, settings.words)
    if accepts is not None and settings.accepts.mode is AcceptsMode.OFF:
        fix = "this cluster's policy says spec.accepts.mode: off; drop it, and ask for one kind in limits"
        raise WireError(WHERE, draft.annotations[ACCEPTS], fix)
    return accepts


def given(draft: Draft, accepts: Accepts, settings: Settings) -> int | None:
    """The kind that an earlier review gave the pod; None where none did. Raises WireError for another pod's note."""
    if CHOSEN not in draft.annotations:
        return None
    chosen = parse_chosen(draft.annotations)
    number = accepts.number(chosen.kind) if chosen is not None and chosen.seal == accepts.seal else None
    words = frozenset(words_of(accepts.kinds[number], settings).all) if number is not None else frozenset()
    if number is None or not any(words & container.amounts.keys() for container in draft.containers):
        fix = f"it was written for another pod: drop it, and write the pod as before it was given a kind of {ACCEPTS}"
        raise WireError(f"metadata.annotations[{CHOSEN}]", draft.annotations[CHOSEN], fix)
    return number


def refuse_where_counted(draft: Draft, kind: tuple[str, str], settings: Settings) -> None:
    """Kueue counts what such a template asks, so it has to say one kind. Raises WireError."""
    if settings.quota.engine is QuotaEngine.KUEUE and kind in QUEUED_WHOLE:
        fix = f"Kueue counts the template of a {kind[1]} before there is a pod: ask for one kind in limits"
        raise WireError(WHERE, draft.annotations[ACCEPTS], fix)


def as_kind(draft: Draft, accepts: Accepts | None, number: int, settings: Settings) -> Draft:
    """The draft as it asks for one of the kinds; without any, as its model needs. Raises WireError."""
    if accepts is None:
        return size_model(draft, settings)
    done = given(draft, accepts, settings)
    number = number if done is None else done
    kind = accepts.kinds[number]
    words = words_of(kind, settings)
    if done is None:
        draft = _taken(draft, accepts, (kind, accepts.changes[number], words), settings)
    if words is settings.words[0] or MODEL not in draft.annotations:
        return size_model(draft, settings)
    own = settings.words[0].vendor
    why = f"what a model needs is known for {own}'s cards only, so {kind.name} got what is written for it alone"
    return draft.warn([f"metadata.annotations[{MODEL}]: {why}"])


def mark(draft: Draft, chosen: Chosen) -> Draft:
    """The draft with the note of what it was given and why."""
    return replace(draft, annotations=changed(draft.annotations, {CHOSEN: render_chosen(chosen)}))


def words_of(kind: Accept, settings: Settings) -> ResourceNames:
    """The words of a kind's vendor."""
    return next(names for names in settings.words if names.count == kind.resource)


# ---- inside
def _taken(draft: Draft, accepts: Accepts, one: tuple[Accept, Changes, ResourceNames], settings: Settings) -> Draft:
    kind, changes, words = one
    container = _container(draft, accepts, settings)
    _refuse_others(container, accepts, settings)
    if MODEL in draft.annotations and words is not settings.words[0]:
        _refuse_unsized(container, kind, words, settings)
    by_model = words is settings.words[0] and (MODEL in draft.annotations or changes.model is not None)
    fresh = container.asking(_amounts(container, accepts, (kind, words, by_model), settings))
    fields: dict[str, str | list[str]] = {"image": changes.image} if changes.image else {}
    fields |= {"command": [*changes.command]} if changes.command is not None else {}
    fresh = fresh.with_fields(**fields)
    fresh = fresh.with_args(changes.args) if changes.args is not None else fresh
    for name, value in changes.env.items():
        fresh = fresh.with_env(name, value)
    notes: dict[str, str | None] = {}
    if kind.models:
        if str(draft.annotations.get(words.use_types) or "").strip(", "):
            fix = f"{ACCEPTS} names the models of {kind.name}: write them in one of the two"
            raise WireError(f"metadata.annotations[{words.use_types}]", draft.annotations[words.use_types], fix)
        notes[words.use_types] = ",".join(kind.models)
    if changes.model:
        if words is not settings.words[0]:
            fix = f"what a model needs is known for {settings.words[0].vendor}'s cards only: write memory in {ACCEPTS}"
            raise WireError(f"{WHERE_WITH}.{kind.name}.model", changes.model, fix)
        notes[MODEL] = changes.model
    draft = draft.with_containers(fresh if each is container else each for each in draft.containers)
    runtime_class = _runtime_class(draft, accepts, words, settings)
    return replace(draft, annotations=changed(draft.annotations, notes), runtime_class=runtime_class)


def _runtime_class(draft: Draft, accepts: Accepts, words: ResourceNames, settings: Settings) -> str | None:
    """The RuntimeClass that the pod names, unless it is that of another of its kinds."""
    classes = settings.runtime_classes
    of_kinds = {classes.get(words_of(kind, settings).vendor) for kind in accepts.kinds}
    named = draft.runtime_class
    return None if named in of_kinds and named != classes.get(words.vendor) else named


def _container(draft: Draft, accepts: Accepts, settings: Settings) -> Container:
    """The container that gets the cards: the one that is named, the only one, or the only one that asks already."""
    servers = [each for each in draft.containers if each.stage is Stage.APP]
    name = accepts.kinds[0].container
    if not name and (text := draft.annotations.get(MODEL)) is not None:
        name = parse_named(text).container
    if name:
        found = [each for each in servers if each.name == name]
        if not found:
            known = ", ".join(each.name for each in servers)
            raise WireError(f"{WHERE}.container", name, f"use one of {known}")
        return found[0]
    resources = _accepted_words(accepts, settings)
    asking = [each for each in servers if resources & each.amounts.keys()]
    if len(servers) == 1 or len(asking) == 1:
        return (asking or servers)[0]
    names = ", ".join(each.name for each in servers)
    raise WireError(WHERE, draft.annotations[ACCEPTS], f"add ;container=NAME to each kind, with one of {names}")


def _accepted_words(accepts: Accepts, settings: Settings) -> frozenset[str]:
    counts = {kind.resource for kind in accepts.kinds}
    return frozenset(name for names in settings.words if names.count in counts for name in names.all)


def _refuse_others(container: Container, accepts: Accepts, settings: Settings) -> None:
    accepted = _accepted_words(accepts, settings)
    for name in sorted(settings.resources & container.amounts.keys()):
        if name not in accepted:
            fix = f"{ACCEPTS} lists no kind of these cards: drop it, or list the kind"
            raise WireError(f"{container.limits_field}[{name}]", container.amounts[name], fix)


def _refuse_unsized(container: Container, kind: Accept, words: ResourceNames, settings: Settings) -> None:
    if words.memory and kind.memory_mib is None and words.memory not in container.amounts:
        fix = f"add ;memory=MIB: what a model needs is known for {settings.words[0].vendor}'s cards only"
        raise WireError(WHERE, kind.name, fix)


def _amounts(
    container: Container, accepts: Accepts, one: tuple[Accept, ResourceNames, bool], settings: Settings
) -> dict[str, str | None]:
    """What the container asks of the kind; what it says of other kinds is removed. Raises WireError."""
    kind, words, by_model = one
    wanted: dict[str, str | None] = dict.fromkeys(_accepted_words(accepts, settings) & container.amounts.keys())
    wanted = {name: None for name in wanted if name not in words.all}
    given_cards = kind.cards or 1
    together = given_cards if words.totals else 1
    sizes: dict[str, str] = {}
    if kind.cards is not None or (words.counts_cards and words.count not in container.amounts and not by_model):
        sizes[words.count] = str(given_cards * words.count_unit)
    if kind.memory_mib is not None:
        if words.memory_percent in container.amounts:
            raise _said_twice(container, words.memory_percent, kind)
        sizes[words.memory] = words.memory_text(kind.memory_mib * together)
    if kind.cores is not None:
        sizes[words.cores] = str(words.core_units(kind.cores) * together)
    for name, value in sizes.items():
        if name in container.amounts and not same_amount(container.amounts[name], value):
            raise _said_twice(container, name, kind)
    return wanted | sizes


def _said_twice(container: Container, name: str, kind: Accept) -> WireError:
    fix = f"{ACCEPTS} says another size for {kind.name}: write it in one of the two"
    return WireError(f"{container.limits_field}[{name}]", container.amounts[name], fix)
