"""What servers were seen to hold, put beside the estimate: lessons from peaks, and the estimate with lessons.

Weights, the position table and the cache are exact, so a lesson is about the rest. An engine fills what it gets, so its
peak says nothing by itself: only where the size of the cache is written in its arguments, the peak without weights and
cache is what the server needs. How much of the cache its requests use is the engine's to say, and only a hint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kerf.sizing.cards import cards_named
from kerf.sizing.catalogue import Catalogue
from kerf.sizing.estimate import MIB, Estimate, estimate, sum_fixed
from kerf.sizing.launch import Launch, asked_by, launch_of
from kerf.sizing.named import parse_named
from kerf.sizing.options import number
from kerf.sizing.overheads import CONTEXT_MIB
from kerf.sizing.quant import PLAIN
from kerf.sizing.request import VLLM, release_of
from kerf.values.learned import Learned, Lesson, ServerPeak, Setup, Taught
from kerf.wire.errors import WireError

FORGET_MS = 180 * 24 * 3_600_000
"""A lesson that no server repeated for so long is dropped."""
UNKNOWN_MODEL = "its model is in no catalogue"
UNREADABLE = "its annotation or arguments cannot be sized"
NO_ENGINE = "its command is no engine that Kerf knows"
NO_CACHE_SIZE = "its arguments do not say how large its cache is"
NOT_LOADED = "it has not held its weights and cache yet"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one server teaches. `pool_mib` is the size of its cache."""

    lesson: Lesson
    pool_mib: int


def evidence_of(server: ServerPeak, card: str, catalogue: Catalogue) -> Evidence | str:
    """What a server on a card of this model teaches, or why it teaches nothing. Its cards are all of one model."""
    try:
        named = parse_named(server.model)
        row, model = catalogue.find(named.name), catalogue.model(named.name)
        launch = launch_of(server.command, server.args, server.image)
        if row is None or model is None:
            return UNKNOWN_MODEL
        if launch is None:
            return NO_ENGINE
        ask = asked_by(launch, named, plain=model.quant is PLAIN)
        tp = ask.tp or max(server.cards // ask.pp, 1)
        found = estimate(model, replace(ask, tp=tp, card="", card_mib=None))
        pool = _pool(launch, found)
    except WireError:
        return UNREADABLE
    if pool is None:
        return NO_CACHE_SIZE
    exact = -(-(sum_fixed(list(found.terms)) - found.kv_bytes + pool) // MIB)
    return _taught(server, Evidence(_lesson(server, row.name, found, launch, card), pool // MIB), exact)


def _taught(server: ServerPeak, found: Evidence, exact: int) -> Evidence | str:
    beside, limit = server.peak_mib - exact, max(server.limit_mib - exact, 1)
    loaded = beside >= CONTEXT_MIB[0] // 2
    if not loaded and not server.denied and not server.failed:
        return NOT_LOADED
    lesson = replace(
        found.lesson,
        beside_mib=beside if loaded else 0,
        refused_mib=limit if server.denied else 0,
        failed_mib=limit if server.failed else 0,
    )
    return replace(found, lesson=lesson)


def _lesson(server: ServerPeak, name: str, found: Estimate, launch: Launch, card: str) -> Lesson:
    ask, ranks = found.ask, found.ranks
    setup = Setup(
        model=name,
        runtime=ask.runtime,
        release=release_of(ask.runtime, version_of(server.image) or ask.version),
        card=card,
        concurrency=ask.concurrency,
        batched_tokens=ask.batched_tokens,
        tp=ranks.tp,
        pp=ranks.pp,
        ep=ranks.ep,
        quantization=ask.quantization,
        kv_dtype=ask.kv_dtype,
        extra=further(launch),
    )
    return Lesson(setup, found.max_len, peak_mib=server.peak_mib, slice_mib=server.limit_mib)


def _pool(launch: Launch, found: Estimate) -> int | None:
    """Bytes of the cache on each card by the container's arguments; None where they do not say."""
    if not found.kv_bytes:
        return 0
    if launch.runtime == VLLM:
        return number(launch.options, ("kv-cache-memory-bytes",), launch.runtime, 2**50)
    tokens = number(launch.options, ("max-total-tokens",), launch.runtime)
    return None if tokens is None else found.kv_bytes * min(tokens, found.kv_tokens) // max(found.kv_tokens, 1)


NO_SIZE = frozenset({
    "host", "port", "served-model-name", "api-key", "model", "model-path", "tokenizer", "tokenizer-path", "revision",
    "chat-template", "tool-call-parser", "enable-auto-tool-choice", "reasoning-parser", "trust-remote-code",
    "download-dir", "load-format", "enable-metrics", "disable-log-requests", "disable-log-stats", "log-level",
    "uvicorn-log-level", "max-log-len", "root-path", "ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "nnodes",
    "node-rank", "dist-init-addr", "master-addr", "master-port", "headless", "seed", "random-seed", "dtype",
    "generation-config", "enable-prefix-caching", "enable-prompt-tokens-details", "kv-cache-memory-bytes",
    "max-total-tokens", "mem-fraction-static", "gpu-memory-utilization",
})  # fmt: skip
"""Options that do not change what a server takes beside weights and cache."""


ASKED = frozenset({
    "max-model-len", "max-num-seqs", "max-num-batched-tokens", "kv-cache-dtype", "runner", "quantization", "q",
    "tensor-parallel-size", "tp", "tp-size", "pipeline-parallel-size", "pp", "pp-size", "expert-parallel-size", "ep",
    "ep-size", "enable-expert-parallel", "disable-custom-all-reduce", "device-memory-utilization", "context-length",
    "max-running-requests", "chunked-prefill-size", "cuda-graph-max-bs-decode", "is-embedding",
})  # fmt: skip
"""What the ask says already, in the spellings that a container may use."""


def further(launch: Launch) -> str:
    """The container's further options that may change what it takes, sorted; empty where there are none."""
    given = launch.options
    names = sorted(name for name in given if name not in ASKED and name not in NO_SIZE)
    return " ".join(f"{name}={given[name]}" for name in names)[:500]


def version_of(image: str) -> str:
    """The engine's version by the image's tag; empty where that is no version."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2].removeprefix("v")
    digits = tag.split("-")[0].split(".")
    return ".".join(digits) if len(digits) >= 2 and all(part.isdigit() for part in digits) else ""


def merged(before: Lesson | None, now: Lesson) -> Lesson:
    """Two lessons of one setup as one. Pods and hours add up, everything else is the greatest."""
    if before is None:
        return now
    top = max(before, now, key=lambda lesson: (lesson.beside_mib, lesson.peak_mib))
    percents = [one.kv_percent for one in (before, now) if one.kv_percent is not None]
    return replace(
        top,
        max_len=max(before.max_len, now.max_len),
        refused_mib=max(before.refused_mib, now.refused_mib),
        failed_mib=max(before.failed_mib, now.failed_mib),
        kv_percent=max(percents, default=None),
        pods=before.pods + now.pods,
        hours=before.hours + now.hours,
        running=before.running + now.running,
        running_hours=before.running_hours + now.running_hours,
        first_ms=min(filter(None, (before.first_ms, now.first_ms)), default=0),
        last_ms=max(before.last_ms, now.last_ms),
    )


def folded(lessons: Iterable[Lesson]) -> dict[Setup, Lesson]:
    """Lessons by setup."""
    found: dict[Setup, Lesson] = {}
    for lesson in lessons:
        found[lesson.setup] = merged(found.get(lesson.setup), lesson)
    return found


def kept(lessons: Mapping[Setup, Lesson], now_ms: int, most: int) -> tuple[Lesson, ...]:
    """At most so many lessons, the newest, without those that nobody repeated for long; sorted by setup."""
    fresh = [lesson for lesson in lessons.values() if lesson.last_ms >= now_ms - FORGET_MS]
    newest = sorted(fresh, key=lambda lesson: (-lesson.last_ms, lesson.setup))[:most]
    return tuple(sorted(newest, key=lambda lesson: lesson.setup))


def taught_by(learned: Learned, name: str, card: str, extra: str = "") -> Taught | None:
    """The lessons about a model on a card; None where no card is named or nothing was learned."""
    if not card:
        return None
    found = tuple(
        lesson
        for lesson in learned.lessons
        if lesson.setup.model.lower() == name.lower() and lesson.setup.extra == extra and same(lesson.setup.card, card)
    )
    return Taught(found, learned.least_pods, learned.least_hours) if found else None


def same(model: str, card: str) -> bool:
    """Whether a driver's name and the name of a card mean one kind."""
    types = set(cards_named(model))
    return bool(types & set(cards_named(card))) if types else model.casefold() == card.casefold()
