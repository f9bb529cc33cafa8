"""Kueue's labels: who asks for a tenant's cards waits in the tenant's queue."""

from collections.abc import Mapping
from typing import Any

from kerf.values.accounts import TenantAccount
from kerf.values.policy import QuotaEngine, QuotaSettings
from kerf.wire.kueue import PRIORITY_LABEL, QUEUE_LABEL, SUSPENDING_PARENT, priority_class
from webhook.core.edits import Edits, child, edit_map

Json = Mapping[str, Any]
_LABELS = (QUEUE_LABEL, PRIORITY_LABEL)


def enqueue(item: Json, tenant: TenantAccount | None, quota: QuotaSettings) -> Edits:
    """Label an object that asks for cards with its tenant's queue and priority; the user's own words stay.

    A pod that Kueue gates for its Deployment, StatefulSet or LeaderWorkerSet anyway is left to it. Every other pod is
    labelled, whoever owns it: Kueue itself skips pods of owners that it queues (it looks them up). A pod that names
    an owner of its tenant's that is queued therefore passes Kueue (docs/quota.md, "Honest limits").
    """
    if tenant is None or quota.engine is not QuotaEngine.KUEUE:
        return Edits()
    meta = child(item, "metadata")
    if SUSPENDING_PARENT in child(meta, "annotations"):
        return Edits()
    wanted = {QUEUE_LABEL: quota.queue, PRIORITY_LABEL: priority_class(tenant.priority)}
    return _set(meta, {key: value for key, value in wanted.items() if not child(meta, "labels").get(key)})


def keep_queue(new: Json, old: Json, quota: QuotaSettings) -> Edits:
    """Bring back labels that an update dropped: who replaces an object with a file of theirs did not mean them."""
    if quota.engine is not QuotaEngine.KUEUE:
        return Edits()
    meta = child(new, "metadata")
    before, now = child(child(old, "metadata"), "labels"), child(meta, "labels")
    return _set(meta, {key: before[key] for key in _LABELS if before.get(key) and not now.get(key)})


def _set(meta: Json, labels: Mapping[str, Any]) -> Edits:
    return Edits(edit_map(("metadata", "labels"), meta.get("labels"), labels))
