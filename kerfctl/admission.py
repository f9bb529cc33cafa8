"""Pods of files through the webhook's own rules, as the API server would send them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kerf.wire.admission import Review, apply_patch
from kerf.wire.annotations import GRANT
from kerf.wire.choosing import KindAnswer, KindQuestion
from kerf.wire.hami import NODE as HAMI_NODE
from kerf.wire.json import Json, at
from webhook.core.kinds import NO_ADVICE, Advice
from webhook.core.mutate import decide, question
from webhook.core.recent import NOTHING_RECENT
from webhook.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pod as it would be stored. `refusal` says why it would not be."""

    pod: Json
    refusal: str = ""
    warnings: tuple[str, ...] = ()


def is_stored(pod: Json) -> bool:
    """Whether an API server has the pod already, or had it when it was dumped: it is not admitted again.

    An API server gives every pod a creation time and a scheduler's name. A pod that is written by hand as running on a
    node has a phase, a grant or HAMi's record.
    """
    meta, spec = at(pod, "metadata"), at(pod, "spec")
    if spec.get("nodeName"):
        notes = at(meta, "annotations")
        said = (at(pod, "status").get("phase"), meta.get("creationTimestamp"))
        return any(said) or GRANT in notes or HAMI_NODE in notes
    return bool(meta.get("creationTimestamp") and spec.get("schedulerName"))


class Kinds(Protocol):
    """What chooses for pods that accept several kinds of cards."""

    def choose(self, question: KindQuestion) -> KindAnswer:
        """The kind, and why."""

    def place(self, pod: Json) -> None:
        """A pod is stored: what it takes is taken."""


def admit(pods: Iterable[Json], settings: Settings, kinds: Kinds) -> list[Admitted]:
    """Each pod in order; those before count as admitted a moment ago. Stored pods stay as they are."""
    found, recent = [], NOTHING_RECENT
    for pod in pods:
        if is_stored(pod):
            found.append(Admitted(pod))
            continue
        review = Review("", "CREATE", "Pod", str(at(pod, "metadata").get("namespace") or "default"), "", pod, {})
        asked = question(review, settings, recent, 0.0)
        advice = Advice(kinds.choose(asked)) if asked else NO_ADVICE
        decision = decide(review, settings, recent, 0.0, advice)
        answer, recent = decision.answer, decision.recent
        stored = apply_patch(pod, answer.patch) if answer.allowed else pod
        if answer.allowed:
            kinds.place(stored)
        found.append(Admitted(stored, "" if answer.allowed else answer.message, answer.warnings))
    return found
