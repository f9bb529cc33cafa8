"""The webhook's decision: a review, the settings and what was admitted a moment ago in, an answer out."""

from dataclasses import dataclass

from kerf.values.verdict import Misfit
from kerf.wire.admission import Answer, Review
from kerf.wire.errors import WireError
from webhook.core.edits import Edits
from webhook.core.forgeries import revert, strip
from webhook.core.makers import edit_maker
from webhook.core.pods import normalise, take_out
from webhook.core.queue import enqueue
from webhook.core.quota import OverQuota, room_for
from webhook.core.recent import NOTHING_RECENT, Recent
from webhook.core.rules import opted_out
from webhook.core.settings import Settings
from webhook.core.templates import KINDS
from webhook.core.tenants import GROUP_KIND, check_tenant


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and the recent admissions with this one."""

    answer: Answer
    recent: Recent


def mutate(review: Review, settings: Settings) -> Answer:
    """Answer one review as if nothing had been admitted before."""
    return decide(review, settings, NOTHING_RECENT, 0.0).answer


def decide(review: Review, settings: Settings, recent: Recent, now: float) -> Decision:
    """Answer one review at `now` (monotonic seconds).

    Looked at are pods, what makes pods from templates, and TenantQuotas; subresources and other kinds pass untouched.
    """
    recent = recent.at(now)
    if review.subresource or review.operation not in {"CREATE", "UPDATE"}:
        return Decision(Answer(allowed=True), recent)
    try:
        edits, recent = _edits(review, settings, recent, now)
    except (WireError, OverQuota) as error:
        return Decision(Answer(allowed=False, message=str(error)), recent)
    return Decision(Answer(allowed=True, patch=edits.operations, warnings=edits.warnings), recent)


def _edits(review: Review, settings: Settings, recent: Recent, now: float) -> tuple[Edits, Recent]:
    kind = (review.group, review.kind)
    if kind == ("", "Pod") and review.operation == "CREATE":
        return _create_pod(review, settings, recent, now)
    if kind == ("", "Pod") and review.user not in settings.trusted:
        return revert(review.object, review.old), recent
    if kind in KINDS:
        return edit_maker(review, settings), recent
    if kind == GROUP_KIND:
        check_tenant(review, settings.tenants)
    return Edits(), recent


def _create_pod(review: Review, settings: Settings, recent: Recent, now: float) -> tuple[Edits, Recent]:
    pod, tenant = review.object, settings.tenant(review.namespace)
    stripped = strip(pod)
    if opted_out(pod, settings, tenant):
        return stripped + take_out(pod, settings), recent
    normal = normalise(pod, settings, tenant)
    edits = stripped + normal.edits
    if tenant is None or not normal.ask.containers:
        return edits, recent
    room = room_for(normal.ask, tenant, normal.cards, recent, now)
    if isinstance(room, Misfit):
        raise OverQuota(room.detail)
    edits += enqueue(pod, tenant, settings.quota)
    return edits, recent if review.dry_run else recent.plus(room)
