"""A pod's workload, served model and engine, from what is written on it."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise, takewhile

from kerf.values.subject import SGLANG, VLLM, EnginePort, Subject, engine_of_image
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.usage import parse_moment

MODEL = "kerf.dev/model"
"""Label or annotation: the model that a pod serves, where its arguments do not say it."""
SERVES = "kerf.dev/serves"
"""Annotation of pods that `kerf model render` sized: the model's name in the catalogue."""
ENGINE_METRICS = "kerf.dev/engine-metrics"
"""Annotation: `vllm:8000/metrics` or `sglang:30000`, or `none`, where the pod's own words do not say it."""
SERVING_PORT = "kerf.dev/serving-port"
"""Annotation: the port of an OpenAI-compatible API, where the pod's own words do not say it, or `none`."""
_LWS = "leaderworkerset.sigs.k8s.io/name"
_HASH = "pod-template-hash"
_PORTS = {VLLM: 8000, SGLANG: 30000}
_LONGEST = 253
_REFERENCE = re.compile(r"\$?\$\(([^)\s]*)\)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
"""As a shell writes it."""
_ENDS = re.compile(r"^-|[|&;<>]")
"""A word that ends a list of values: the next option, or what a shell reads as the end of the command."""
_LONGEST_SCRIPT = 16_384


def subject_of(pod: Json) -> Subject:
    """What metering knows of the pod. Never raises: what cannot be read is left out."""
    model, engine = "", None
    for container in items_at(pod, "spec", "containers"):
        engine = engine or _engine(pod, container)
        model = model or _served(_words(container))
    labels, notes = at(pod, "metadata", "labels"), at(pod, "metadata", "annotations")
    written = (text for found in (labels, notes) if isinstance(text := found.get(MODEL), str))
    named = next((name for text in written if (name := text.partition(";")[0].strip())), "")
    return Subject(bound_ms(pod), _interned(workload_of(pod)), _interned((named or model)[:_LONGEST]), engine)


def bound_ms(pod: Json) -> int:
    """When the pod was bound, by the API server's clock; 0 where nothing says so."""
    status = pod.get("status")
    for condition in items_at(status, "conditions") if isinstance(status, dict) and "conditions" in status else ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            with suppress(WireError):
                return parse_moment(condition.get("lastTransitionTime"), "lastTransitionTime")
    return 0


def workload_of(pod: Json) -> str:
    """The object that people wrote, as `Kind/name`: a ReplicaSet's pods count as their Deployment's."""
    labels = at(pod, "metadata", "labels")
    if isinstance(group := labels.get(_LWS), str) and group:
        return f"LeaderWorkerSet/{group}"
    owners = items_at(pod, "metadata", "ownerReferences")
    owner = next((one for one in owners if one.get("controller") is True), None)
    if owner is None:
        return f"Pod/{text_at(pod, 'metadata', 'name')}"
    kind, name, template = text_at(owner, "kind"), text_at(owner, "name"), text_at(labels, _HASH)
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    return f"{kind}/{name}"


def serving_port(pod: Json) -> int:
    """The port at which a pod answers requests for models; 0 for a pod that does not.

    Of several nodes that run one engine together the first alone answers; halves of an engine that prefills and
    decodes apart answer through a router.
    """
    written = at(pod, "metadata", "annotations").get(SERVING_PORT)
    if isinstance(written, str):
        return _number(written)
    for container in items_at(pod, "spec", "containers"):
        words = _words(container)
        if engine := _engine_of(words):
            if _is_part(words):
                return 0
            written = _value(words, "--port")
            return _number(written) if written else _PORTS[engine]
    return 0


def served_names(pod: Json) -> tuple[str, ...]:
    """The names under which a pod's engine serves its model, by the engine's arguments."""
    for words in _engines_first(pod):
        named = filter(_is_known, _several(words, "--served-model-name"))
        names = tuple(dict.fromkeys(name[:_LONGEST] for name in named))
        if names or (names := tuple(filter(None, (_served(words)[:_LONGEST],)))):
            return names
    return ()


def adapter_names(pod: Json) -> tuple[str, ...]:
    """The LoRA adapters that an engine loads at its start: clients name them as they name models."""
    found: list[str] = []
    for words in _engines_first(pod)[:1]:
        for flag in ("--lora-modules", "--lora-paths"):
            for word in _several(words, flag):
                name, sign, _ = word.partition("=")
                found += [name[:_LONGEST]] if sign and not word.startswith("{") else _named_in(word)
    return tuple(dict.fromkeys(filter(None, found)))


def _named_in(word: str) -> list[str]:
    """`{"name": "sql", "path": "…"}`."""
    try:
        value = json.loads(word)
    except ValueError:
        return []
    name = value.get("name") if isinstance(value, dict) else None
    return [name[:_LONGEST]] if isinstance(name, str) else []


def source_of(pod: Json) -> str:
    """The repository or path from which the engine loads what it serves; empty where its arguments do not say it."""
    return next((name for words in _engines_first(pod) if (name := _loaded(words))), "")


def misread_port(pod: Json) -> str:
    """What an engine's `--port` says where that is no port, such as a variable that only the container knows."""
    for container in items_at(pod, "spec", "containers"):
        words = _words(container)
        if _engine_of(words):
            written = _value(words, "--port")
            return "" if _number(written) else written
    return ""


@lru_cache(maxsize=65536)
def _interned(text: str) -> str:
    """One object for equal texts: thousands of pods share a few workloads."""
    return text


def _is_part(words: tuple[str, ...]) -> bool:
    """Whether an engine is a part of a larger one, and leaves the answers to another part or to a router."""
    apart = _value(words, "--disaggregation-mode") in {"prefill", "decode"}
    return apart or "--headless" in words or _number(_value(words, "--node-rank")) > 0


def _engine(pod: Json, container: Json) -> EnginePort | None:
    words = _words(container)
    name = text_at(container, "name")
    notes = at(pod, "metadata", "annotations")
    if isinstance(written := notes.get(ENGINE_METRICS), str):
        return _written(written, name)
    engine = _engine_of(words)
    if not engine or (engine == SGLANG and "--enable-metrics" not in words):
        return None
    port = _number(notes.get("prometheus.io/port")) or _number(_value(words, "--port")) or _PORTS[engine]
    path = notes.get("prometheus.io/path")
    return EnginePort(engine, name, port, path if isinstance(path, str) and path.startswith("/") else "/metrics")


def _written(text: str, container: str) -> EnginePort | None:
    engine, _, rest = text.partition(":")
    port, _, path = rest.partition("/")
    if engine not in _PORTS or not (number := _number(port) if port else _PORTS[engine]):
        return None
    return EnginePort(engine, container, number, f"/{path}" if path else "/metrics")


def _engine_of(words: tuple[str, ...]) -> str:
    return next((each for each in _PORTS if any(_is_engine(word, each) for word in words)), "")


def _is_engine(word: str, engine: str) -> bool:
    """An image, a command or a module of the engine: `vllm`, `lmsysorg/sglang:v0.5`, `sglang.launch_server`."""
    last = word.rpartition("/")[2].partition(":")[0]
    return last == engine or last.startswith((f"{engine}-", f"{engine}."))


def _engines_first(pod: Json) -> list[tuple[str, ...]]:
    """The words of each container; those of engines before those of other containers."""
    return sorted(map(_words, items_at(pod, "spec", "containers")), key=lambda words: not _engine_of(words))


def _served(words: tuple[str, ...]) -> str:
    name = _value(words, "--served-model-name")
    return name if name and _is_known(name) else _loaded(words)


def _is_known(name: str) -> bool:
    """Whether it is a name, and no variable that only the container knows."""
    return "$" not in name


def _loaded(words: tuple[str, ...]) -> str:
    for flag in ("--model-path", "--model"):
        if value := _value(words, flag):
            return value if _is_known(value) else ""
    for before, word in pairwise(words):
        if before == "serve" and not word.startswith("-"):
            return word if _is_known(word) else ""
    return ""


def _words(container: Json) -> tuple[str, ...]:
    """The words of the image, the command and the arguments; an image that is a server is a command by itself."""
    image = text_at(container, "image")
    found: list[str] = []
    for key in ("command", "args"):
        listed = container.get(key)
        for word in listed if isinstance(listed, list) else ():
            found += _read(word, container) if isinstance(word, str) else ()
    by_itself = engine_of_image(image) and not container.get("command") and found[:1] != ["serve"]
    return (image, *(["serve"] if by_itself else []), *found)


def _read(word: str, container: Json) -> tuple[str, ...]:
    """A word as the container gets it, in several where it is a shell's script.

    `$(NAME)` is replaced as the kubelet does, and `$NAME` in a script, where the container's `env` has the value
    itself; `$$(NAME)` stays.
    """
    if "$" not in word:
        return _split(word)
    values = _values_of(container)
    words = _split(_replaced(word, values))
    if len(words) < 2:
        return words
    return tuple(_VARIABLE.sub(lambda found: values.get(found[1] or found[2], found[0]), each) for each in words)


def _values_of(container: Json) -> dict[str, str]:
    values: dict[str, str] = {}
    for each in items_at(container, "env"):
        if isinstance(value := each.get("value"), str):
            values[text_at(each, "name")] = _replaced(value, values)
    return values


def _replaced(text: str, values: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        return found[0][1:] if found[0].startswith("$$") else values.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


@lru_cache(maxsize=4096)
def _split(word: str) -> tuple[str, ...]:
    """`sh -c "vllm serve 'm' --port 1"` holds words too, in quotes and over several lines; JSON is one."""
    if not (" " in word or "\n" in word) or word.startswith("{"):
        return (word,)
    script = word[:_LONGEST_SCRIPT].replace("\\\n", " ")
    try:
        return tuple(shlex.split(script)[:256])
    except ValueError:  # a quote that is never closed
        return tuple(script.split()[:256])


def _several(words: tuple[str, ...], flag: str) -> tuple[str, ...]:
    """All values of a flag that takes several: `--served-model-name one two`."""
    for i, word in enumerate(words):
        if word == flag:
            return tuple(takewhile(lambda each: not _ENDS.search(each), words[i + 1 :]))
        if word.startswith(f"{flag}="):
            return (word.removeprefix(f"{flag}="),)
    return ()


def _value(words: tuple[str, ...], flag: str) -> str:
    return next(_values(words, flag), "")


def _values(words: tuple[str, ...], flag: str) -> Iterator[str]:
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words) and not words[i + 1].startswith("-"):
            yield words[i + 1]
        elif word.startswith(f"{flag}="):
            yield word.removeprefix(f"{flag}=")


def _number(value: object) -> int:
    """A port, 0 for anything else."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return number if 0 < number < 65_536 else 0
