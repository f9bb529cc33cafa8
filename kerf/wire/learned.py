"""What was learned of models, as the ConfigMap `kerf-learned` holds it, and the block `learning` of a policy."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from kerf.values.learned import Learned, LearningMode, LearningSettings, Lesson, Setup
from kerf.wire.errors import WireError
from kerf.wire.fields import known, list_at, object_at, one_of, real, whole
from kerf.wire.inventory import parse_versioned
from kerf.wire.json import Json

NAME = "kerf-learned"
KEY = "learned.json"
LABEL = "kerf.dev/learned"
VERSION = 1
MOST_LESSONS = 400
"""A ConfigMap holds 1 MiB; a lesson takes at most 2 KiB."""
_LONGEST = 512
_MOST = 2**53
_NUMBERS = (
    "max_len",
    "beside_mib",
    "refused_mib",
    "failed_mib",
    "peak_mib",
    "slice_mib",
    "pods",
    "running",
    "first_ms",
    "last_ms",
)


def parse_learning(value: Json, where: str) -> LearningSettings:
    """The block `learning`. Raises WireError."""
    zero = LearningSettings()
    known(value, where, ("mode", "leastPods", "leastHours"))
    if value.get("mode") is False:  # YAML reads a bare off as false
        value = {**value, "mode": LearningMode.OFF.value}
    return LearningSettings(
        mode=LearningMode(one_of(value, "mode", where, zero.mode.value, [mode.value for mode in LearningMode])),
        least_pods=whole(value, "leastPods", where, zero.least_pods, (1, 10_000)),
        least_hours=real(value, "leastHours", where, zero.least_hours, (0.0, 87_600.0)),
    )


def path_of(namespace: str) -> str:
    """Where the ConfigMap is."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"


def render_learned(learned: Learned) -> str:
    """The text of the key."""
    document = {
        "v": VERSION,
        "leastPods": learned.least_pods,
        "leastHours": learned.least_hours,
        "until_ms": learned.until_ms,
        "lessons": [lesson_object(lesson) for lesson in learned.lessons[:MOST_LESSONS]],
    }
    return json.dumps(document, indent=1)


def config_map(learned: Learned, namespace: str) -> dict[str, Any]:
    """The ConfigMap, as it is applied."""
    meta = {"name": NAME, "namespace": namespace, "labels": {LABEL: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {KEY: render_learned(learned)}}


def learned_in(item: Json) -> Learned:
    """What a ConfigMap holds; nothing where it has no such key yet. Raises WireError."""
    data = item.get("data")
    text = data.get(KEY) if isinstance(data, Mapping) else None
    return parse_learned(text) if isinstance(text, str) else Learned()


def parse_learned(text: str) -> Learned:
    """What a text holds. Unknown keys are ignored. Raises WireError."""
    document = parse_versioned(text, KEY, VERSION)
    lessons = list_at(document.get("lessons"), f"{KEY}.lessons")
    if len(lessons) > MOST_LESSONS:
        raise WireError(f"{KEY}.lessons", len(lessons), f"keep at most {MOST_LESSONS}")
    zero = Learned()
    return Learned(
        lessons=tuple(_lesson(object_at(item, where), where) for item, where in _numbered(lessons)),
        least_pods=whole(document, "leastPods", KEY, zero.least_pods, (1, 10_000)),
        least_hours=real(document, "leastHours", KEY, zero.least_hours, (0.0, 87_600.0)),
        until_ms=whole(document, "until_ms", KEY, 0, (0, _MOST)),
    )


def _numbered(lessons: list[Any]) -> list[tuple[Any, str]]:
    return [(item, f"{KEY}.lessons[{i}]") for i, item in enumerate(lessons)]


def lesson_object(lesson: Lesson) -> dict[str, Any]:
    """A lesson as JSON values, without what is zero or empty."""
    found = asdict(replace(lesson, hours=round(lesson.hours, 3), running_hours=round(lesson.running_hours, 3)))
    return {
        key: value for key, value in found.items() if value not in (None, "", 0) or (key == "kv_percent" and value == 0)
    }


def _lesson(item: Json, where: str) -> Lesson:
    setup = object_at(item.get("setup"), f"{where}.setup")
    numbers: dict[str, Any] = {key: whole(item, key, where, 0, (0, _MOST)) for key in _NUMBERS}
    percent = item.get("kv_percent")
    return Lesson(
        setup=_setup(setup, f"{where}.setup"),
        kv_percent=None if percent is None else whole(item, "kv_percent", where, None, (0, 100)),
        pod=_text(item, "pod", where),
        hours=real(item, "hours", where, 0.0, (0.0, 1e9)),
        running_hours=real(item, "running_hours", where, 0.0, (0.0, 1e9)),
        **numbers,
    )


def _setup(item: Json, where: str) -> Setup:
    words = ("model", "runtime", "release", "card", "quantization", "kv_dtype", "extra")
    found: dict[str, Any] = {key: _text(item, key, where) for key in words}
    for key in ("concurrency", "batched_tokens", "tp", "pp", "ep"):
        found[key] = whole(item, key, where, None, (1, 2**31))
    return Setup(**found)


def _text(item: Json, key: str, where: str) -> str:
    found = item.get(key, "")
    if not isinstance(found, str) or len(found) > _LONGEST:
        raise WireError(f"{where}.{key}", found, f"write a text of at most {_LONGEST} characters")
    return found
