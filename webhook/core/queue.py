"""Kueue's labels: what asks for a tenant's cards waits in the tenant's queue."""

from dataclasses import replace

from kerf.values.accounts import TenantAccount
from kerf.values.policy import QuotaEngine, QuotaSettings
from kerf.wire.admission import Review
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.kueue import PRIORITY_LABEL, QUEUE_LABEL, SUSPENDING_PARENT, priority_class
from webhook.core.draft import Draft, changed
from webhook.core.pod_owners import controllers_of
from webhook.core.settings import Settings

_LABELS = (QUEUE_LABEL, PRIORITY_LABEL)


def enqueue(draft: Draft, tenant: TenantAccount | None, quota: QuotaSettings) -> Draft:
    """Label an object that asks for cards with its tenant's queue and priority. Labels that the user set stay.

    A pod that Kueue gates for its Deployment, StatefulSet or LeaderWorkerSet anyway is left to Kueue. Every other pod
    is labelled, whatever owns it: Kueue itself skips pods of owners that it queues (it looks them up). Only controllers
    may therefore name an owner.
    """
    if tenant is None or quota.engine is not QuotaEngine.KUEUE or SUSPENDING_PARENT in draft.annotations:
        return draft
    return _label(draft, {QUEUE_LABEL: quota.queue, PRIORITY_LABEL: priority_class(tenant.priority)})


def refuse_owners_of_users(review: Review, settings: Settings) -> None:
    """Kueue counts nothing that a queued owner controls, so only controllers may name one. Raises WireError."""
    if settings.quota.engine is not QuotaEngine.KUEUE or settings.is_controller(review.user):
        return
    before = dict(controllers_of(review.old))
    for kind, name in controllers_of(review.object):
        if before.get(kind) != name:
            fix = (
                "only a controller writes it, since Kueue counts its owner instead; "
                f"{review.user[:253]} is not known as one: drop it, or start the webhook with --controller-user"
            )
            raise WireError("metadata.ownerReferences", f"{kind[1]} {name}"[:63], fix)


def keep_queue(draft: Draft, old: Json, quota: QuotaSettings) -> Draft:
    """Restore labels that an update dropped: replacing an object with the file it came from should not unqueue it."""
    if quota.engine is not QuotaEngine.KUEUE:
        return draft
    before = at(old, "metadata", "labels")
    return _label(draft, {key: before[key] for key in _LABELS if before.get(key)})


def _label(draft: Draft, labels: Json) -> Draft:
    missing = {key: value for key, value in labels.items() if not draft.labels.get(key)}
    return replace(draft, labels=changed(draft.labels, missing)) if missing else draft
