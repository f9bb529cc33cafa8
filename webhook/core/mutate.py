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
from webhook.core.rules import (
    DEFAULT_SCHEDULERS,
    OPT_OUT,
    mentioned_card,
    read_ask,
    refuse_foreign_scheduler,
    refuse_opted_out_cards,
)
from webhook.core.settings import Settings

Json = Mapping[str, Any]


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
    try:
        if _opted_out(pod):
            refuse_opted_out_cards(child(pod, "spec"), settings)
            return _answer(stripped)
        return _answer(stripped + _admit(pod, settings))
    except WireError as error:
        return Answer(allowed=False, message=str(error))


def _admit(pod: Json, settings: Settings) -> Edits:
    """What makes the stored pod say what the scheduler will read. Raises WireError."""
    spec = child(pod, "spec")
    if not mentioned_card(spec, settings.vendors) or not read_ask(pod, settings).containers:
        return Edits()
    edits = _placed(spec, settings)
    for path, container, stage in _numbered(spec):
        edits += fill_container(container, stage, path, settings)
    return edits


def _placed(spec: Json, settings: Settings) -> Edits:
    """The scheduler's name and the runtime class. Raises WireError for a scheduler that cannot divide cards."""
    operations = []
    refuse_foreign_scheduler(spec, settings)
    if str(spec.get("schedulerName") or "") in DEFAULT_SCHEDULERS:
        op = "replace" if "schedulerName" in spec else "add"
        operations.append(PatchOp(op, pointer("spec", "schedulerName"), settings.scheduler_name))
    if settings.runtime_class and not spec.get("runtimeClassName"):
        op = "replace" if "runtimeClassName" in spec else "add"
        operations.append(PatchOp(op, pointer("spec", "runtimeClassName"), settings.runtime_class))
    return Edits(tuple(operations))


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
