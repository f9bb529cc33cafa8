"""`kerf.dev/accepts` and its companions on a pod: the kinds of cards that it accepts, and the kind that it was given.

kerf.dev/accepts: "nvidia.com/gpu:A100|H100;memory=24000;cores=30, huawei.com/Ascend910B3;memory=32768"
kerf.dev/accepts-with: |
huawei.com/Ascend910B3: {image: vllm-ascend:v0.11, args: [--dtype, bfloat16], env: {HCCL_BUFFSIZE: "512"}}
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import yaml

from kerf.values.accepts import (
    NO_CHANGES,
    Accept,
    Accepts,
    AcceptsMode,
    AcceptsOrder,
    AcceptsSettings,
    Changes,
    Chosen,
)
from kerf.values.units import MIB, parse_quantity
from kerf.values.words import ResourceNames
from kerf.wire.container_asks import MOST_CARDS, MOST_MEMORY_MIB
from kerf.wire.errors import WireError
from kerf.wire.fields import known, list_at, object_at, one_of, real
from kerf.wire.json import Json

ACCEPTS = "kerf.dev/accepts"
WITH = "kerf.dev/accepts-with"
CHOSEN = "kerf.dev/chosen"
WHERE = f"metadata.annotations[{ACCEPTS}]"
WHERE_WITH = f"metadata.annotations[{WITH}]"
LONGEST, LONGEST_WITH, LONGEST_WHY, LONGEST_PROMISE = 4096, 65_536, 1000, 64
MOST_KINDS, MOST_WORDS = 16, 1024
OPTIONS = ("cards", "memory", "cores", "container")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORM = "write RESOURCE[:MODEL|MODEL][;memory=MIB][;cores=PERCENT][;cards=N], and a comma between kinds"
_RESOURCE = re.compile(r"[a-z0-9.-]{1,253}/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()/+-]{0,99}")
_CONTAINER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,252}")


# ---- what the pod accepts
def parse_accepts(notes: Json, vendors: Sequence[ResourceNames]) -> Accepts | None:
    """What a pod's annotations accept; None where they say nothing. Raises WireError."""
    text = notes.get(ACCEPTS)
    if text is None:
        if WITH in notes:
            raise WireError(WHERE_WITH, notes[WITH], f"write {ACCEPTS} too, or drop it")
        return None
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise WireError(WHERE, text, f"{_FORM}; at most {LONGEST} characters")
    counts = {names.count: names for names in vendors}
    kinds = tuple(_kind(part.strip(), counts) for part in text.strip().removesuffix(",").split(","))
    if len(kinds) > MOST_KINDS:
        raise WireError(WHERE, f"{len(kinds)} kinds", f"list at most {MOST_KINDS}")
    for i, kind in enumerate(kinds):
        if kind.name in {other.name for other in kinds[:i]}:
            raise WireError(WHERE, kind.name, "list each kind once")
    if len({kind.container for kind in kinds}) > 1:
        names = ", ".join(sorted(kind.container or "(none)" for kind in kinds))
        raise WireError(f"{WHERE}.container", names, "write the same container for every kind")
    return Accepts(kinds, _changes(notes.get(WITH), kinds), seal_of(notes))


def seal_of(notes: Json) -> int:
    """A checksum of what a pod accepts."""
    return crc32(json.dumps([notes.get(key) for key in (ACCEPTS, WITH)], default=str).encode())


def _kind(part: str, counts: Mapping[str, ResourceNames]) -> Accept:
    named, *options = (piece.strip() for piece in part.split(";"))
    resource, colon, models = (piece.strip() for piece in named.partition(":"))
    if not _RESOURCE.fullmatch(resource):
        raise WireError(WHERE, part, _FORM)
    words = counts.get(resource)
    if words is None:
        near = sorted(count for count in counts if count.partition("/")[0] == resource.partition("/")[0])
        fix = f"use {' or '.join(near)}" if near else "docs/vendors.md lists the resources by which cards are counted"
        raise WireError(WHERE, resource, f"no vendor counts its cards by it: {fix}")
    found = tuple(model.strip() for model in models.split("|")) if colon else ()
    for model in found:
        if not _MODEL.fullmatch(model):
            raise WireError(WHERE, named, "write names of models behind the colon, with | between them: A100|H100")
    if found and not words.use_types:
        raise WireError(WHERE, named, f"{resource} is one model of card: drop {colon}{models}")
    if len(set(found)) != len(found):
        raise WireError(WHERE, named, "name each model once")
    given: dict[str, str] = {}
    for option in options:
        if option:
            _option(option, named, given)
    return _sized(given, f"{WHERE}.{named}", found, words)


def _option(option: str, named: str, given: dict[str, str]) -> None:
    key, sign, value = (piece.strip() for piece in option.partition("="))
    where = f"{WHERE}.{named}"
    if not sign or key not in OPTIONS:
        raise WireError(where, option, f"write KEY=VALUE with one of {', '.join(OPTIONS)}")
    if key in given:
        raise WireError(f"{where}.{key}", value, "write it once")
    given[key] = value


def _sized(given: Mapping[str, str], where: str, models: tuple[str, ...], words: ResourceNames) -> Accept:
    resource = words.count
    memory = _memory(given["memory"], f"{where}.memory") if "memory" in given else None
    cores = _whole(given["cores"], f"{where}.cores", (0, 100), "percent of a card") if "cores" in given else None
    cards = _whole(given["cards"], f"{where}.cards", (1, MOST_CARDS), "cards") if "cards" in given else None
    container = given.get("container", "")
    if "container" in given and not _CONTAINER.fullmatch(container):
        raise WireError(f"{where}.container", container, "write the name of a container")
    for key, value, word in (("memory", memory, words.memory), ("cores", cores, words.cores)):
        if value is not None and not word:
            raise WireError(f"{where}.{key}", value, f"no {key} can be asked beside {resource}: drop it")
    if cards is not None and not words.counts_cards:
        raise WireError(f"{where}.cards", cards, f"{resource} counts parts of one card: drop it")
    return Accept(models, memory, cores, cards, resource, container)


def _whole(text: str, where: str, bounds: tuple[int, int], unit: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not bounds[0] <= int(text) <= bounds[1]:
        raise WireError(where, text, f"write {unit}: a whole number from {bounds[0]} to {bounds[1]}")
    return int(text)


def _memory(text: str, where: str) -> int:
    """MiB: a plain number, or a quantity with a suffix."""
    fix = f"write MiB of each card, from 1 to {MOST_MEMORY_MIB}, or a quantity such as 24Gi"
    try:
        amount = parse_quantity(text)
    except ValueError as error:
        raise WireError(where, text, fix) from error
    mib = int(amount) if re.fullmatch(r"[0-9]{1,9}", text) else int(amount // MIB)
    if not 1 <= mib <= MOST_MEMORY_MIB:
        raise WireError(where, text, fix)
    return mib


# ---- what it needs on each kind
def _changes(text: object, kinds: tuple[Accept, ...]) -> tuple[Changes, ...]:
    if text is None:
        return (NO_CHANGES,) * len(kinds)
    if not isinstance(text, str) or len(text) > LONGEST_WITH:
        raise WireError(WHERE_WITH, text, f"write YAML of at most {LONGEST_WITH} characters")
    try:
        document = yaml.load(text, _LOADER)  # noqa: S506 (a safe one)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(WHERE_WITH, text, f"write YAML ({str(error).splitlines()[0]})") from error
    found = {}
    for key, value in object_at({} if document is None else document, WHERE_WITH).items():
        if not any(key in (kind.name, kind.resource) for kind in kinds):
            raise WireError(WHERE_WITH, key, f"use a kind of {ACCEPTS}: {', '.join(kind.name for kind in kinds)}")
        where = f"{WHERE_WITH}.{key}"
        found[key] = _change(object_at({} if value is None else value, where), where)
    return tuple(found.get(kind.name) or found.get(kind.resource) or NO_CHANGES for kind in kinds)


def _change(value: Json, where: str) -> Changes:
    known(value, where, ("image", "command", "args", "env", "model"))
    for key in ("image", "model"):
        if key in value and (not isinstance(value[key], str) or not value[key]):
            raise WireError(f"{where}.{key}", value[key], "write a text")
    env = object_at(value.get("env") or {}, f"{where}.env")
    for name, said in env.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise WireError(f"{where}.env", name, "write the name of an environment variable")
        if not isinstance(said, str):
            raise WireError(f"{where}.env.{name}", said, f'write a text: "{str(said)[:40]}"')
    if len(env) > MOST_WORDS:
        raise WireError(f"{where}.env", len(env), f"write at most {MOST_WORDS} variables")
    return Changes(
        value.get("image"),
        _words(value, "command", where),
        _words(value, "args", where),
        dict(env),
        value.get("model"),
    )


def _words(value: Json, key: str, where: str) -> tuple[str, ...] | None:
    if key not in value:
        return None
    listed = list_at(value[key], f"{where}.{key}")
    if len(listed) > MOST_WORDS:
        raise WireError(f"{where}.{key}", len(listed), f"write at most {MOST_WORDS} words")
    for word in listed:
        if not isinstance(word, str):
            raise WireError(f"{where}.{key}", word, f'write texts: "{str(word)[:40]}"')
    return tuple(listed)


# ---- what it was given
def render_chosen(chosen: Chosen) -> str:
    """The annotation `kerf.dev/chosen`."""
    document: dict[str, Any] = {"kind": chosen.kind, "why": chosen.why, "for": chosen.seal, "among": [*chosen.among]}
    return json.dumps(document | ({"promise": chosen.promise} if chosen.promise else {}), ensure_ascii=False)


def parse_chosen(notes: Json) -> Chosen | None:
    """What a pod was given; None where nothing readable says so. Never raises: a user may have written it."""
    text = notes.get(CHOSEN)
    if not isinstance(text, str) or len(text) > LONGEST + 2 * LONGEST_WHY:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind, why, promise, seal, among = (found.get(key) for key in _RECORD) if isinstance(found, dict) else (None,) * 5
    if not isinstance(kind, str) or not kind or isinstance(seal, bool) or not isinstance(seal, int):
        return None
    words = tuple(word for word in among if isinstance(word, str)) if isinstance(among, list) else ()
    return Chosen(
        kind,
        why[:LONGEST_WHY] if isinstance(why, str) else "",
        promise[:LONGEST_PROMISE] if isinstance(promise, str) else "",
        seal,
        words[:MOST_KINDS],
    )


_RECORD = ("kind", "why", "promise", "for", "among")


# ---- the policy
def parse_accepts_settings(value: Json) -> AcceptsSettings:
    """The block `accepts` of a SchedulingPolicy. Raises WireError."""
    where, zero = "spec.accepts", AcceptsSettings()
    if value.get("mode") is False:  # YAML reads a bare off as false
        value = {**value, "mode": AcceptsMode.OFF.value}
    known(value, where, ("mode", "order", "answerSeconds", "explainAfterSeconds", "rememberSeconds"))
    return AcceptsSettings(
        mode=AcceptsMode(one_of(value, "mode", where, zero.mode.value, [mode.value for mode in AcceptsMode])),
        order=AcceptsOrder(one_of(value, "order", where, zero.order.value, [order.value for order in AcceptsOrder])),
        answer_s=real(value, "answerSeconds", where, zero.answer_s, (0.01, 3.0)),
        explain_after_s=real(value, "explainAfterSeconds", where, zero.explain_after_s, (1.0, 86_400.0)),
        remember_s=real(value, "rememberSeconds", where, zero.remember_s, (0.0, 86_400.0)),
    )
