"""Owners of pods: where their templates are, and what an update may change of them.

Templates are filled in when the owner is created, because Kueue counts templates and because a template that could
never make a pod is better refused at once. Updates differ: changing a template rolls its pods out again, so only a
user's change of what is asked may lead to a rollout, never Kerf.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kerf.values.vendor import QUOTA_DOMAIN
from kerf.wire.json import Json, items_at
from kerf.wire.resources import CARD_POLICY, NODE_POLICY, WEIGHTS
from webhook.core.draft import Container, Draft, changed, draft_of, same_amount
from webhook.core.settings import Settings

_WISHES = (NODE_POLICY, CARD_POLICY, WEIGHTS)
_TEMPLATES: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("batch", "Job"): (("spec", "template"),),
    ("apps", "Deployment"): (("spec", "template"),),
    ("apps", "StatefulSet"): (("spec", "template"),),
    ("apps", "ReplicaSet"): (("spec", "template"),),
    ("apps", "DaemonSet"): (("spec", "template"),),
    ("batch", "CronJob"): (("spec", "jobTemplate", "spec", "template"),),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
    ("jobset.x-k8s.io", "JobSet"): (("spec", "replicatedJobs", "*", "template", "spec", "template"),),
}
KINDS = frozenset(_TEMPLATES)
"""Group and kind of the owners whose templates Kerf fills in."""
NOT_QUEUED = frozenset({("batch", "CronJob"), ("apps", "DaemonSet")})
"""Kinds that Kueue does not queue: it queues the Jobs and the pods that they make."""
_COMPARING = KINDS - {("batch", "CronJob")}
"""Kinds that make objects and compare them with their template ever after."""


def templates_of(kind: tuple[str, str], item: Json) -> Iterator[Draft]:
    """The templates of an object, without their containers. Parts that are missing are left out."""
    for steps in _TEMPLATES[kind]:
        yield from _walk(item, steps, (), "")


def _walk(value: Any, steps: tuple[str, ...], path: tuple[str | int, ...], field: str) -> Iterator[Draft]:  # noqa: ANN401
    if not steps:
        if isinstance(value, Mapping):
            yield draft_of(value, path, field)
        return
    step, rest = steps[0], steps[1:]
    if step == "*":
        for i, item in enumerate(value if isinstance(value, list) else ()):
            name = item.get("name", i) if isinstance(item, Mapping) else i
            yield from _walk(item, rest, (*path, i), f"{field}[{str(name)[:63]}]")
    elif isinstance(value, Mapping) and step in value:
        yield from _walk(value[step], rest, (*path, step), f"{field}.{step}" if field else step)


def owned_by_template(item: Json) -> bool:
    """Whether the object itself comes from a template of an owner: a Deployment's ReplicaSet, a JobSet's Job.

    Its owner compares it with that template, so it would recreate an object that Kerf changed, without end. Anybody can
    write an owner, so this is worth no more than the user who says it.
    """
    return any(kind in _COMPARING for kind, _ in controllers_of(item))


def controllers_of(item: Json) -> Iterator[tuple[tuple[str, str], str]]:
    """Group and kind, and name, of what an object says controls it."""
    for owner in items_at(item, "metadata", "ownerReferences"):
        if owner.get("controller") is True:
            kind = str(owner.get("apiVersion")).partition("/")[0], str(owner.get("kind"))
            yield kind, str(owner.get("name", ""))


def same_words(new: Draft, old: Draft, settings: Settings) -> bool:
    """Whether two templates say the same of cards, word for word."""
    return _words(new, settings) == _words(old, settings)


def restore_amounts(draft: Draft, old: Draft, settings: Settings) -> Draft:
    """Give containers that ask for the same as before the old text of their amounts, so that nothing is rolled out."""
    before = {(container.part, container.name): container for container in old.containers}
    return draft.with_containers(
        _restored(container, before.get((container.part, container.name)), settings) for container in draft.containers
    )


def follow_change(draft: Draft, old: Draft, settings: Settings) -> Draft:
    """What an update changes in limits alone holds for requests too, and the reverse.

    Kerf wrote both, and `kubectl apply` sends what has changed in a file that has one of them.
    """
    before = {(container.part, container.name): container for container in old.containers}
    pairs = [(each, before.get((each.part, each.name))) for each in draft.containers]
    warnings = [
        f"{each.limits_field}: no card is asked there any more, but the requests still ask: remove them too"
        for each, was in pairs
        if was and _asks(was.limits, settings) and not _asks(each.limits, settings) and _asks(each.requests, settings)
    ]
    followed = (_followed(each, was, settings) if was else each for each, was in pairs)
    return draft.with_containers(followed).warn(warnings)


def _followed(container: Container, before: Container, settings: Settings) -> Container:
    changes: dict[str, Any] = {}
    for name in sorted(settings.resources & before.limits.keys() & before.requests.keys()):
        was, limit, request = before.limits[name], container.limits.get(name), container.requests.get(name)
        if request is None or not same_amount(was, before.requests[name]):
            continue  # an object that was replaced by a file without requests
        if limit is None:
            if same_amount(request, was) and _asks(container.limits, settings):
                changes[name] = None
        elif same_amount(limit, was) != same_amount(request, was):
            changes[name] = request if same_amount(limit, was) else limit
    return _without_priority(container.asking(changes), before, settings)


def _without_priority(container: Container, before: Container, settings: Settings) -> Container:
    """The container without the variable that Kerf wrote for a task priority which the update removes."""
    for names in settings.words:
        was = before.amounts.get(names.priority)
        if was is None or names.priority in container.amounts or not names.priority_env:
            continue
        value = container.env_value(names.priority_env)
        if value is not None and same_amount(value, was):
            container = container.without_env(names.priority_env)
    return container


def _asks(amounts: Json, settings: Settings) -> bool:
    return not settings.resources.isdisjoint(amounts)


def _restored(container: Container, before: Container | None, settings: Settings) -> Container:
    limits = _restored_part(container.limits, before.limits if before else {}, settings)
    requests = _restored_part(container.requests, before.requests if before else {}, settings)
    restored = container.with_parts(limits, requests)
    for name in dict.fromkeys(names.priority_env for names in settings.words if names.priority_env):
        value = before.env_value(name) if before else None
        if value is not None:
            restored = restored.with_env(name, value)
    return restored


def _restored_part(values: Json, before: Json, settings: Settings) -> Json:
    now, then = _amounts(values, settings), _amounts(before, settings)
    return changed(values, {name: then.get(name) for name in (*now, *then)})


def _words(draft: Draft, settings: Settings) -> object:
    """Everything that a template says of cards, in a form that compares."""
    amounts = [
        (container.stage, _amounts(container.limits, settings), _amounts(container.requests, settings))
        for container in draft.containers
    ]
    if not draft.mentioned(settings.resources):
        return amounts, None
    keys = (*_WISHES, *(key for names in settings.words for key in names.selection))
    notes = [draft.annotations.get(key) for key in keys]
    return amounts, (notes, [draft.spec.get(key) for key in ("nodeSelector", "nodeName", "schedulerName")])


def _amounts(amounts: Json, settings: Settings) -> dict[str, Any]:
    return {
        name: value
        for name, value in amounts.items()
        if name in settings.resources or name.startswith(f"{QUOTA_DOMAIN}/")
    }
