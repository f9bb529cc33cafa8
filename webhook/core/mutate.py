"""The webhook's decision: a review, the settings, what was admitted a moment ago and advice in, an answer out."""

from dataclasses import dataclass, replace
from functools import partial

from kerf.values.accounts import TenantAccount
from kerf.values.verdict import Misfit
from kerf.wire.accepts import ACCEPTS
from kerf.wire.admission import Answer, Review
from kerf.wire.choosing import KindQuestion
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.resources import parse_pod
from webhook.core.accepts import accepts_of, as_kind, given, refuse_where_counted
from webhook.core.defaults import (
    drop_runtime_class,
    fill,
    keep_runtime_class,
    refuse_foreign_scheduler,
    set_runtime_class,
    set_scheduler,
    task_priorities,
)
from webhook.core.draft import Draft, draft_of, patch, read_containers, within
from webhook.core.forgeries import fix, revert, strip
from webhook.core.gangs import keep_marks, mark_gangs
from webhook.core.kinds import NO_ADVICE, Advice, Offer, choose, offers_of, question_of
from webhook.core.models import same_model
from webhook.core.pod_owners import (
    KINDS,
    NOT_QUEUED,
    follow_change,
    owned_by_template,
    restore_amounts,
    same_words,
    templates_of,
)
from webhook.core.queue import enqueue, keep_queue, refuse_owners_of_users
from webhook.core.quota import OverQuota, never_fits, room_for
from webhook.core.recent import NOTHING_RECENT, Recent
from webhook.core.rules import opted_out, read, refuse_opted_out_cards, warn_unserved
from webhook.core.settings import Settings
from webhook.core.tenants import GROUP_KIND, check_tenant
from webhook.core.totals import select_cards, settle, write_totals


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and the recent admissions with this one."""

    answer: Answer
    recent: Recent


def mutate(review: Review, settings: Settings) -> Answer:
    """Answer one review as if nothing had been admitted before."""
    return decide(review, settings, NOTHING_RECENT, 0.0).answer


def question(review: Review, settings: Settings, recent: Recent, now: float) -> KindQuestion | None:
    """What the scheduler is to be asked before this review is decided, if anything."""
    if (review.group, review.kind, review.operation, review.subresource) != ("", "Pod", "CREATE", ""):
        return None
    try:
        draft = strip(draft_of(review.object), settings.written)
        offers = _offers(draft, settings, settings.tenant(review.namespace), (recent.at(now), now))
    except (WireError, OverQuota):
        return None  # `decide` says so
    return question_of(offers, settings, keep=not review.dry_run)


def decide(review: Review, settings: Settings, recent: Recent, now: float, advice: Advice = NO_ADVICE) -> Decision:
    """Answer one review at `now` (monotonic seconds); `advice` is the answer to its `question`.

    The webhook looks at pods, owners of pods, and TenantQuotas. Subresources and other kinds pass untouched.
    """
    recent = recent.at(now)
    if review.subresource or review.operation not in {"CREATE", "UPDATE"}:
        return Decision(Answer(allowed=True), recent)
    try:
        drafts, recent = _drafts(review, settings, (recent, now), advice)
    except (WireError, OverQuota) as error:
        return Decision(Answer(allowed=False, message=str(error)), recent)
    warnings = tuple(warning for draft in drafts for warning in draft.warnings)
    return Decision(Answer(allowed=True, patch=patch(drafts), warnings=warnings), recent)


def _drafts(review: Review, settings: Settings, at: tuple[Recent, float], advice: Advice) -> tuple[list[Draft], Recent]:
    """What Kerf would store. Raises WireError and OverQuota."""
    kind, recent = (review.group, review.kind), at[0]
    if kind == ("", "Pod") and review.operation == "CREATE":
        draft, recent = _create_pod(review, settings, at, advice)
        return [draft], recent
    if kind == ("", "Pod") and review.user not in settings.trusted:
        return [_update_pod(review, settings)], recent
    if kind in KINDS and not (settings.is_controller(review.user) and owned_by_template(review.object)):
        return (_create_owner if review.operation == "CREATE" else _update_owner)(review, settings), recent
    if kind == GROUP_KIND:
        check_tenant(review, settings.tenants)
    return [], recent


def _create_pod(review: Review, settings: Settings, at: tuple[Recent, float], advice: Advice) -> tuple[Draft, Recent]:
    tenant, (recent, now) = settings.tenant(review.namespace), at
    draft = strip(draft_of(review.object), settings.written)
    offers = _offers(draft, settings, tenant, at)
    accepts = accepts_of(draft, settings, tenant) if offers else None
    draft = choose(offers, accepts, advice) if accepts else _complete(draft, settings, tenant)
    if tenant is None or not draft.ask.containers:
        return draft, recent
    refuse_owners_of_users(review, settings)
    room = room_for(draft, tenant, recent, now)
    if isinstance(room, Misfit):
        raise OverQuota(room.detail)
    return enqueue(draft, tenant, settings.quota), recent if review.dry_run else recent.plus(room)


def _update_pod(review: Review, settings: Settings) -> Draft:
    """What only Kerf writes stays as it was, and no user names what Kueue would count instead of the pod."""
    draft = revert(draft_of(review.object), review.old, settings.written)
    if at(review.old, "spec").get("nodeName"):
        draft = fix(draft, review.old, settings.fixed)
    asks = _readable(draft)
    if settings.tenant(review.namespace) and (asks is None or asks.mentioned(settings.resources)):
        refuse_owners_of_users(review, settings)
    return draft


def _offers(
    draft: Draft, settings: Settings, tenant: TenantAccount | None, at: tuple[Recent, float]
) -> tuple[Offer, ...]:
    """The kinds that a new pod is to be given one of; none where it says one kind, or was given one."""
    accepts = accepts_of(draft, settings, tenant)
    if accepts is None or given(read_containers(draft), accepts, settings) is not None:
        return ()

    def complete(number: int, within: TenantAccount | None) -> Draft:
        return _complete(draft, settings, within, number)

    return offers_of(accepts, complete, settings, tenant, at)


def _create_owner(review: Review, settings: Settings) -> list[Draft]:
    tenant = settings.tenant(review.namespace)
    templates = templates_of((review.group, review.kind), review.object)
    complete = partial(_complete_template, (review.group, review.kind), settings=settings, tenant=tenant)
    drafts = [complete(template) for template in templates]
    drafts = mark_gangs((review.group, review.kind), review.object, drafts)
    owner = draft_of(review.object)
    if any(draft.ask.containers for draft in drafts):
        if tenant:
            refuse_owners_of_users(review, settings)
        if (review.group, review.kind) not in NOT_QUEUED:
            owner = enqueue(owner, tenant, settings.quota)
    return [*drafts, owner]


def _update_owner(review: Review, settings: Settings) -> list[Draft]:
    kind, tenant = (review.group, review.kind), settings.tenant(review.namespace)
    owner = keep_queue(draft_of(review.object), review.old, settings.quota)
    before = {template.path: template for template in templates_of(kind, review.old)}
    templates = list(templates_of(kind, review.object))
    drafts = [
        keep_marks(_update_template(kind, (each, before.get(each.path)), settings, tenant), before.get(each.path))
        for each in templates
    ]
    readable = [found for each in templates if (found := _readable(each)) is not None]
    if tenant and any(each.mentioned(settings.resources) for each in readable):
        refuse_owners_of_users(review, settings)
    return [owner, *drafts]


def _update_template(
    kind: tuple[str, str], both: tuple[Draft, Draft | None], settings: Settings, tenant: TenantAccount | None
) -> Draft:
    """Complete a template only if the update changes what it asks: any other change of Kerf's is a needless rollout."""
    draft, old = both
    if old is not None and draft.sent == old.sent:
        return draft
    if old is None or ACCEPTS in draft.annotations:
        return _complete_template(kind, draft, settings, tenant)
    with within(draft):
        read_draft, before = read_containers(draft), _readable(old)
        read_draft = follow_change(read_draft, before, settings) if before else read_draft
        same = before is not None and same_model(read_draft, before)
        if before and same and same_words(read_draft, before, settings):
            return read_draft
        if before and same and _same_ask(read_draft, before, settings):
            return _keep_template(read_draft, before, settings)
        draft = drop_runtime_class(read_draft, before, settings) if before else read_draft
    return _complete_template(kind, draft, settings, tenant)


def _keep_template(draft: Draft, old: Draft, settings: Settings) -> Draft:
    """Keep what Kerf wrote into a template that asks for the same as before."""
    draft = restore_amounts(draft, old, settings)
    if old.scheduler_name == settings.scheduler_name:
        return keep_runtime_class(set_scheduler(draft, settings), old, settings)
    if old.scheduler_name != draft.scheduler_name:
        refuse_foreign_scheduler(draft, settings)
    return draft


def _readable(draft: Draft) -> Draft | None:
    try:
        return read_containers(draft)
    except WireError:
        return None


def _same_ask(new: Draft, old: Draft, settings: Settings) -> bool:
    """Whether two templates ask for the same. Raises WireError where the new one cannot be read."""
    ask = parse_pod(new.stored(), settings.words, settings.defaults)
    try:
        before = parse_pod(old.sent, settings.words, settings.defaults)
    except WireError:
        return False
    same = (ask.containers, ask.selection, ask.wishes) == (before.containers, before.selection, before.wishes)
    return same and task_priorities(new, settings) == task_priorities(old, settings)


def _complete_template(kind: tuple[str, str], draft: Draft, settings: Settings, tenant: TenantAccount | None) -> Draft:
    """The template as it is stored. One that accepts several kinds is read and stays as it is: its pods choose."""
    with within(draft):
        if accepts_of(draft, settings, tenant) is not None:
            refuse_where_counted(draft, kind, settings)
            offers = _offers(draft, settings, None, (NOTHING_RECENT, 0.0))
            return replace(draft, ask=offers[0].draft.ask) if offers else draft
        draft = _complete(draft, settings, tenant)
    if tenant and (misfit := never_fits(draft, tenant)):
        raise OverQuota(f"{draft.where}: {misfit.detail}")
    return draft


def _complete(draft: Draft, settings: Settings, tenant: TenantAccount | None, kind: int = 0) -> Draft:
    """Every rule and default, in order. Fields in errors are named from the pod on. Raises WireError.

    Of a pod that accepts several kinds, `kind` is the number of the one that it is completed as.

    A step that decides what is asked belongs before `mentioned`, a step that depends on what is asked behind `read`.
    """
    draft = draft if draft.containers else read_containers(draft)
    if opted_out(draft, settings, tenant):
        refuse_opted_out_cards(draft, settings)
    else:
        draft = as_kind(draft, accepts_of(draft, settings, tenant), kind, settings)
        draft = read(draft, settings) if draft.mentioned(settings.resources) else draft
    if draft.ask.containers:
        draft = select_cards(draft, settings, tenant)
        draft = set_runtime_class(set_scheduler(draft, settings), settings)
        draft = fill(settle(draft, settings), settings)
    return warn_unserved(write_totals(draft, settings), settings)
