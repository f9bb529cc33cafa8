"""The webhook's decision: a review and the settings in, an answer out."""

from collections.abc import Mapping
from typing import Any

from kerf.model.ask import Stage
from kerf.wire.admission import Answer, PatchOp, Review, pointer
from kerf.wire.errors import WireError
from kerf.wire.resources import containers_of
from webhook.core.defaults import fill_container
from webhook.core.edits import Edits, Path, child
from webhook.core.forgeries import revert, strip
from webhook.core.rules import mentions_cards, read_ask
from webhook.core.settings import Settings

Json = Mapping[str, Any]
OPT_OUT = ("kerf.dev/webhook", "hami.io/webhook")
"""Labels whose value "ignore" keeps defaults, rules and the scheduler's name off a pod; forgeries still go."""
_DEFAULT_SCHEDULERS = frozenset({"", "default-scheduler"})


def mutate(review: Review, settings: Settings) -> Answer:
    """Answer one review. Only pods themselves are looked at: subresources and other kinds pass untouched."""
    if review.kind != "Pod" or review.subresource:
        return Answer(allowed=True)
    if review.operation == "CREATE":
        return _create(review.object, settings)
    if review.operation == "UPDATE" and review.user not in settings.trusted:
        return _answer(revert(review.object, review.old))
    return Answer(allowed=True)


def _create(pod: Json, settings: Settings) -> Answer:
    stripped = strip(pod)
    if _opted_out(pod):
        return _answer(stripped)
    try:
        return _answer(stripped + _admit(pod, settings))
    except WireError as error:
        return Answer(allowed=False, message=str(error))


def _admit(pod: Json, settings: Settings) -> Edits:
    """What makes the stored pod say what the scheduler will read. Raises WireError."""
    spec = child(pod, "spec")
    if not mentions_cards(spec, settings.vendors) or not read_ask(pod, settings).containers:
        return Edits()
    edits = _placed(spec, settings)
    for path, container, stage in _numbered(spec):
        edits += fill_container(container, stage, path, settings)
    return edits


def _placed(spec: Json, settings: Settings) -> Edits:
    """The scheduler's name and the runtime class."""
    operations = []
    warnings: tuple[str, ...] = ()
    scheduler = str(spec.get("schedulerName") or "")
    if scheduler in _DEFAULT_SCHEDULERS:
        op = "replace" if "schedulerName" in spec else "add"
        operations.append(PatchOp(op, pointer("spec", "schedulerName"), settings.scheduler_name))
    elif scheduler != settings.scheduler_name:
        words = (
            f"spec.schedulerName: {scheduler[:63]!r} cannot divide cards; drop it, or write {settings.scheduler_name}"
        )
        warnings = (words,)
    if settings.runtime_class and not spec.get("runtimeClassName"):
        op = "replace" if "runtimeClassName" in spec else "add"
        operations.append(PatchOp(op, pointer("spec", "runtimeClassName"), settings.runtime_class))
    return Edits(tuple(operations), warnings)


def _numbered(spec: Json) -> list[tuple[Path, Json, Stage]]:
    """Every container with its path in the pod, in start order."""
    initial = len(spec.get("initContainers") or [])
    return [
        (("spec", "initContainers", i) if i < initial else ("spec", "containers", i - initial), container, stage)
        for i, (container, stage) in enumerate(containers_of(spec))
    ]


def _opted_out(pod: Json) -> bool:
    labels = child(child(pod, "metadata"), "labels")
    return any(labels.get(label) == "ignore" for label in OPT_OUT)


def _answer(edits: Edits) -> Answer:
    return Answer(allowed=True, patch=edits.operations, warnings=edits.warnings)
