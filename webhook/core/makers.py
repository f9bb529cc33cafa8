"""What makes pods from templates: normalised when it is made, and when its own words on cards change."""

from collections.abc import Mapping
from typing import Any

from kerf.values.ask import PodAsk
from kerf.wire.admission import Review
from webhook.core.edits import Edits
from webhook.core.pods import NO_ASK, normalise, take_out
from webhook.core.queue import enqueue, keep_queue
from webhook.core.quota import OverQuota, never_fits
from webhook.core.rules import opted_out
from webhook.core.settings import Settings
from webhook.core.templates import (
    IMMUTABLE,
    Template,
    keep,
    made_by_another,
    same_ask,
    same_words,
    templates_of,
    within,
)

Json = Mapping[str, Any]


def edit_maker(review: Review, settings: Settings) -> Edits:
    """Edits of a new or changed object of `webhook.core.templates.KINDS`. Raises WireError and OverQuota."""
    if made_by_another(review.object):
        return Edits()
    return _create(review, settings) if review.operation == "CREATE" else _update(review, settings)


def _create(review: Review, settings: Settings) -> Edits:
    edits, asked = Edits(), False
    for template in templates_of((review.group, review.kind), review.object):
        more, ask = _normal(template, review.namespace, settings)
        edits, asked = edits + more, asked or bool(ask.containers)
    tenant = settings.tenant(review.namespace)
    return edits + enqueue(review.object, tenant, settings.quota) if asked else edits


def _update(review: Review, settings: Settings) -> Edits:
    kind = (review.group, review.kind)
    edits = keep_queue(review.object, review.old, settings.quota)
    if kind in IMMUTABLE:
        return edits
    before = {template.path: template.value for template in templates_of(kind, review.old)}
    for template in templates_of(kind, review.object):
        old = before.get(template.path)
        if old is None:
            edits += _normal(template, review.namespace, settings)[0]
        elif not same_words(template.value, old, settings):
            edits += _changed(template, old, review.namespace, settings)
    return edits


def _changed(template: Template, old: Json, namespace: str, settings: Settings) -> Edits:
    with within(template):
        if same_ask(template.value, old, settings):
            return keep(template, old, settings)
    return _normal(template, namespace, settings)[0]


def _normal(template: Template, namespace: str, settings: Settings) -> tuple[Edits, PodAsk]:
    """A template made normal, and what each of its pods asks."""
    tenant = settings.tenant(namespace)
    with within(template):
        if opted_out(template.value, settings, tenant):
            return take_out(template.value, settings, template.path), NO_ASK
        normal = normalise(template.value, settings, tenant, template.path)
    if tenant and (misfit := never_fits(normal.ask, tenant, normal.cards)):
        raise OverQuota(f"{template.field}: {misfit.detail}")
    warnings = tuple(f"{template.field}.{warning}" for warning in normal.edits.warnings)
    return Edits(normal.edits.operations, warnings), normal.ask
