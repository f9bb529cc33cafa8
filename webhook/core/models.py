"""Pods that name a model: the slice, the cards and the engine's missing arguments, from `kerf.dev/model`.

What Kerf writes is recorded in `kerf.dev/sized`, so that a change of the model's annotation can take it back. A pod
made from a template that was sized keeps the template's sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from kerf.sizing.cards import LARGEST_MIB, cards_named
from kerf.sizing.estimate import MIB, Estimate, Model
from kerf.sizing.launch import Launch, asked_by, launch_of, missing
from kerf.sizing.learned import further, taught_by
from kerf.sizing.manifest import LARGEST_NODE
from kerf.sizing.named import MODEL, WHERE, Named, parse_named
from kerf.sizing.quant import PLAIN
from kerf.sizing.request import SGLANG, Ask
from kerf.sizing.uncounted import uncounted
from kerf.values.ask import Stage
from kerf.values.learned import LearningMode, Taught
from kerf.values.units import parse_quantity
from kerf.values.vendor import ResourceNames
from kerf.wire.errors import WireError
from webhook.core.draft import Container, Draft, changed, same_amount
from webhook.core.settings import Settings

SIZED = "kerf.dev/sized"


def size_model(draft: Draft, settings: Settings) -> Draft:
    """Fill in what the named model needs. Never changes what the user wrote. Raises WireError for a conflict."""
    text = draft.annotations.get(MODEL)
    if text is None:
        return _taken_back(draft)
    named = parse_named(text)
    if SIZED in draft.annotations and _still_sized(draft, text):
        return draft
    draft = _taken_back(draft)
    model = settings.catalogue.model(named.name)
    if model is None:
        raise WireError(WHERE, named.name, settings.catalogue.hint(named.name))
    container = _container(draft, named)
    launch = launch_of(container.command, container.args, container.image)
    ask = asked_by(launch, named, plain=model.quant is PLAIN) if launch else named.ask
    words = _words(container, settings)
    ask = _with_cards(ask, container, draft, words, settings.model_card)
    found = settings.catalogue.estimate(named.name, ask, _taught(named, launch, ask, settings))
    amounts = _amounts(found, container, words, named.name)
    sized = container.asking(amounts)
    seen = _checksum(container.command, container.args)
    record: dict[str, Any] = {"for": text, "container": container.name, "limits": amounts, "seen": seen}
    if launch:
        _refuse_uncounted(launch, model)
        _refuse_other_model(launch, named, settings)
        repository = settings.catalogue.repository(named.name)
        first, args = _missing(launch, found, repository)
        start = launch.start or 0
        sized = sized.with_args((*container.args[:start], *first, *container.args[start:], *args))
        record |= {"first": first, "start": start, "args": args}
        draft = draft.warn(_no_model(launch, container, repository))
    draft = draft.with_containers(sized if each is container else each for each in draft.containers)
    draft = replace(draft, annotations=changed(draft.annotations, {SIZED: json.dumps(record)}))
    return draft if launch else draft.warn(_no_engine(container))


def same_model(new: Draft, old: Draft) -> bool:
    """Whether two templates name the same model and start its server in the same way."""
    return _model_words(new) == _model_words(old)


def _model_words(draft: Draft) -> object:
    text = draft.annotations.get(MODEL)
    starts = [(each.name, each.image, each.command, each.args) for each in draft.containers]
    return text, starts if text is not None else draft.annotations.get(SIZED)


def _still_sized(draft: Draft, text: str) -> bool:
    record = _record(draft)
    return record.text == text and any(
        each.name == record.container and record.holds(each) for each in draft.containers
    )


def _container(draft: Draft, named: Named) -> Container:
    """The container that serves the model: the one that is named, the only one, or the only one with an engine."""
    servers = [each for each in draft.containers if each.stage is Stage.APP]
    if named.container:
        found = [each for each in servers if each.name == named.container]
        if not found:
            known = ", ".join(each.name for each in servers)
            raise WireError(f"{WHERE}.container", named.container, f"use one of {known}")
        return found[0]
    engines = [each for each in servers if launch_of(each.command, each.args, each.image)]
    if len(servers) == 1 or len(engines) == 1:
        return (engines or servers)[0]
    names = ", ".join(each.name for each in servers)
    raise WireError(WHERE, draft.annotations.get(MODEL), f"add ;container=NAME with one of {names}")


def _words(container: Container, settings: Settings) -> ResourceNames:
    """NVIDIA's words: what an engine needs beside weights and cache is known for CUDA alone."""
    own, *others = settings.words
    for name in (name for words in others for name in words.all if name in container.amounts):
        fix = f"drop it, or the annotation {MODEL}: sizes of models are known for {own.vendor}'s cards only"
        raise WireError(f"{container.limits_field}[{name}]", container.amounts[name], fix)
    return own


def _with_cards(ask: Ask, container: Container, draft: Draft, words: ResourceNames, default: str) -> Ask:
    """The ask on the cards that the pod selects, as many as the container asks for."""
    count = _number(container, words.count)
    if count and ask.tp is None:
        ask = replace(ask, tp=max(1, count // ask.pp) if count % ask.pp == 0 else count)
    if count and count not in {(ask.tp or 1) * ask.pp, ask.tp or 1}:
        fix = f"tp {ask.tp} x pp {ask.pp} takes {(ask.tp or 1) * ask.pp} cards; make them equal, or drop one"
        raise WireError(f"{container.limits_field}[{words.count}]", container.amounts[words.count], fix)
    names = [name.strip() for name in str(draft.annotations.get(words.use_types) or "").split(",") if name.strip()]
    cards = [card for name in names or [default] for card in cards_named(name)]
    if not cards:
        return ask
    smallest = min(cards, key=lambda card: card.usable)
    return replace(ask, card=smallest.name)


def _taught(named: Named, launch: Launch | None, ask: Ask, settings: Settings) -> Taught | None:
    """Lessons about the model on the ask's card, where the policy wants pods sized by them."""
    row = settings.catalogue.find(named.name)
    if settings.learning is not LearningMode.APPLY or row is None or launch is None:
        return None
    return taught_by(settings.learned, row.name, ask.card, further(launch))


def _amounts(found: Estimate, container: Container, words: ResourceNames, name: str) -> dict[str, str]:
    """What is missing of cards, memory and cores. Raises WireError where what is there is less than the model needs."""
    field, ranks = container.limits_field, found.ranks
    if words.memory_percent in container.amounts:
        fix = f"drop it: {MODEL} asks for {found.slice_mib:,} MiB a card in {words.memory}"
        raise WireError(f"{field}[{words.memory_percent}]", container.amounts[words.memory_percent], fix)
    memory = _number(container, words.memory)
    if memory is not None and memory < found.slice_mib:
        fix = f"the model needs {found.slice_mib:,} MiB a card ({_why(found)}): drop it, or ask for less in {MODEL}"
        raise WireError(f"{field}[{words.memory}]", container.amounts[words.memory], fix)
    if not found.ask.card and found.slice_mib > LARGEST_MIB:
        fix = f"needs {found.slice_mib:,} MiB on one card: name the cards by {words.use_types}, or write ;tp=N"
        raise WireError(WHERE, name, fix)
    wanted = {words.count: str(ranks.cards if ranks.cards <= LARGEST_NODE else ranks.tp)}
    wanted[words.memory] = str(found.slice_mib)
    if found.cores:
        wanted[words.cores] = str(found.cores)
    return {word: value for word, value in wanted.items() if word not in container.amounts}


def _why(found: Estimate) -> str:
    learned = ", as servers of it were seen to hold" if found.lesson else ""
    return f"weights {found.weights_mib:,}, cache {found.kv_bytes // MIB:,}, {found.max_len:,} tokens{learned}"


def _number(container: Container, name: str) -> int | None:
    """An amount as a whole number. Raises WireError."""
    if name not in container.amounts:
        return None
    try:
        return int(parse_quantity(container.amounts[name]))
    except ValueError as error:
        raise WireError(f"{container.limits_field}[{name}]", container.amounts[name], str(error)) from error


def _refuse_uncounted(launch: Launch, model: Model) -> None:
    found = uncounted(launch.options, launch.runtime, model.shape)
    if found:
        fix = f"{MODEL} does not count what it takes: drop it, or drop the annotation and write the pod's memory"
        raise WireError(f"--{found[0]}", found[1], fix)


def _refuse_other_model(launch: Launch, named: Named, settings: Settings) -> None:
    """The container may load any path, but not another model of the catalogue."""
    models = settings.catalogue
    written, asked = models.find(launch.model) if launch.model else None, models.find(named.name)
    if written is not None and written != asked:
        fix = f"the container serves {launch.model}; write the same in both"
        raise WireError(WHERE, named.name, fix)


def _missing(launch: Launch, found: Estimate, repository: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments that are missing, at the start and at the end. The model's own name is one of them."""
    more = missing(launch, found.args)
    if launch.model or not repository:
        return (), more
    if not launch.positional:
        return (), ("--model-path" if launch.runtime == SGLANG else "--model", repository, *more)
    return ((repository,) if launch.start is not None else ()), more


def _no_model(launch: Launch, container: Container, repository: str) -> list[str]:
    """A warning where the engine would serve its own default model, because there is no place to write another."""
    if launch.model or not launch.positional or launch.start is not None or not repository:
        return []
    return [
        f"{container.where}.command: names no model, so the engine serves its default; write {repository} behind serve"
    ]


def _no_engine(container: Container) -> list[str]:
    fix = "write vllm serve or python3 -m sglang.launch_server as its command to get the engine's arguments too"
    return [f"{container.where}.command: no engine that Kerf knows, so only the slice is set; {fix}"]


@dataclass(frozen=True, slots=True)
class Record:
    """What Kerf wrote into a draft before. `text` is the model's annotation that it was written for."""

    text: str = ""
    container: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    start: int = 0
    """How many arguments of the user's are before `first`."""
    seen: int = 0
    """A checksum of what the user wrote as command and arguments."""

    def holds(self, container: Container) -> bool:
        """Whether the container still has all of it."""
        own = self.without(container.args)
        return (
            all(same_amount(container.amounts.get(name), value) for name, value in self.limits.items())
            and own is not None
            and _checksum(container.command, own) == self.seen
        )

    def without(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments without what Kerf wrote, None where some of it is gone."""
        end, size = self.start + len(self.first), len(self.args)
        if args[self.start : end] != self.first:
            return None
        words = (*args[: self.start], *args[end:])
        starts = (i for i in range(len(words) - size, -1, -1) if words[i : i + size] == self.args)
        start = next(starts, None)
        return None if start is None else (*words[:start], *words[start + size :])


def _record(draft: Draft) -> Record:
    """The record of a draft; an empty one where nothing can be read."""
    try:
        found = json.loads(draft.annotations.get(SIZED) or "{}")
        return Record(
            str(found.get("for", "")),
            str(found.get("container", "")),
            {str(name): str(value) for name, value in dict(found.get("limits") or {}).items()},
            tuple(str(word) for word in found.get("first") or ()),
            tuple(str(word) for word in found.get("args") or ()),
            max(int(found.get("start") or 0), 0),
            int(found.get("seen") or 0),
        )
    except (AttributeError, ValueError, TypeError, RecursionError):
        return Record()


def _checksum(command: tuple[Any, ...], args: tuple[Any, ...]) -> int:
    return crc32(json.dumps([command, args], default=str).encode())


def _taken_back(draft: Draft) -> Draft:
    """The draft without what Kerf wrote for an earlier annotation, as far as it is still as Kerf wrote it."""
    if SIZED not in draft.annotations:
        return draft
    record = _record(draft)
    containers = [
        _without(container, record) if container.name == record.container else container
        for container in draft.containers
    ]
    return replace(draft.with_containers(containers), annotations=changed(draft.annotations, {SIZED: None}))


def _without(container: Container, record: Record) -> Container:
    gone = {name: None for name, value in record.limits.items() if same_amount(container.amounts.get(name), value)}
    args = record.without(container.args)
    return container.asking(gone).with_args(container.args if args is None else args)
