"""Templates of pods: where they stand in the objects that make pods, and what an update may change of them.

They are normalised when the object is made, because Kueue counts templates and because a template that could never
make a pod is better refused at once. An update is another matter: to change a template is to roll its pods out
again. So only the user's own change of what is asked leads to one, never Kerf's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kerf.values.vendor import QUOTA_DOMAIN
from kerf.wire.errors import WireError
from kerf.wire.resources import CARD_POLICY, NODE_POLICY, WEIGHTS, parse_pod
from webhook.core.defaults import set_task_priority, task_priority
from webhook.core.edits import Edits, Path, child, edit_map
from webhook.core.pods import numbered, place
from webhook.core.rules import mentioned_card, refuse_foreign_scheduler
from webhook.core.settings import Settings

Json = Mapping[str, Any]
_WISHES = (NODE_POLICY, CARD_POLICY, WEIGHTS)
IMMUTABLE = frozenset({("batch", "Job")})
"""Kinds whose template nobody can change."""
_TEMPLATES: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("batch", "Job"): (("spec", "template"),),
    ("apps", "Deployment"): (("spec", "template"),),
    ("apps", "StatefulSet"): (("spec", "template"),),
    ("apps", "ReplicaSet"): (("spec", "template"),),
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): (
        ("spec", "leaderWorkerTemplate", "leaderTemplate"),
        ("spec", "leaderWorkerTemplate", "workerTemplate"),
    ),
    ("jobset.x-k8s.io", "JobSet"): (("spec", "replicatedJobs", "*", "template", "spec", "template"),),
}
KINDS = frozenset(_TEMPLATES)
"""Group and kind of what makes pods from a template that Kerf normalises."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template and where it stands: as a path, and as people write it."""

    path: Path
    field: str
    value: Json


@contextmanager
def within(template: Template) -> Iterator[None]:
    """Name the fields of errors from the object on, not from the template."""
    try:
        yield
    except WireError as error:
        raise WireError(f"{template.field}.{error.field}", error.value, error.fix) from error


def templates_of(kind: tuple[str, str], item: Json) -> Iterator[Template]:
    """The templates of an object; parts that are not there are left out."""
    for steps in _TEMPLATES[kind]:
        yield from _walk(item, steps, (), "")


def _walk(value: Any, steps: tuple[str, ...], path: Path, field: str) -> Iterator[Template]:  # noqa: ANN401
    if not steps:
        if isinstance(value, Mapping):
            yield Template(path, field, value)
        return
    step, rest = steps[0], steps[1:]
    if step == "*":
        for i, item in enumerate(value if isinstance(value, list) else ()):
            name = item.get("name", i) if isinstance(item, Mapping) else i
            yield from _walk(item, rest, (*path, i), f"{field}[{str(name)[:63]}]")
    elif isinstance(value, Mapping) and step in value:
        yield from _walk(value[step], rest, (*path, step), f"{field}.{step}" if field else step)


def made_by_another(item: Json) -> bool:
    """Whether the object is itself made from a template above: a ReplicaSet of a Deployment, a Job of a JobSet.

    Its maker compares what it made with its own template, so a difference would be made anew, again and again.
    """
    owners = child(item, "metadata").get("ownerReferences")
    return any(
        owner.get("controller") is True and (str(owner.get("apiVersion")).partition("/")[0], owner.get("kind")) in KINDS
        for owner in (owners if isinstance(owners, list) else ())
        if isinstance(owner, Mapping)
    )


def same_words(new: Json, old: Json, settings: Settings) -> bool:
    """Whether two templates say the same of cards, word for word. Nothing is read, so nothing can be refused."""
    return _words(new, settings) == _words(old, settings)


def same_ask(new: Json, old: Json, settings: Settings) -> bool:
    """Whether two templates ask for the same. Raises WireError where the new one cannot be read."""
    ask = parse_pod(new, settings.vendors, settings.defaults)
    try:
        before = parse_pod(old, settings.vendors, settings.defaults)
    except WireError:
        return False
    return (ask.containers, ask.selection, ask.wishes) == (before.containers, before.selection, before.wishes)


def keep(new: Template, old: Json, settings: Settings) -> Edits:
    """Give a template that asks for the same as before the very words that stood there: no rollout for nothing.

    Raises WireError for another scheduler that cannot divide cards.
    """
    spec, before = child(new.value, "spec"), child(old, "spec")
    stood = {(path[-2], container.get("name")): container for path, container, _ in numbered(before)}
    edits = Edits()
    for path, container, _ in numbered(spec, new.path):
        edits += _keep_container(container, stood.get((path[-2], container.get("name")), {}), path, settings)
    if before.get("schedulerName") == settings.scheduler_name:
        runtime = settings.runtime_class if before.get("runtimeClassName") == settings.runtime_class else ""
        return edits + place(spec, replace(settings, runtime_class=runtime), new.path)
    if before.get("schedulerName") != spec.get("schedulerName"):
        refuse_foreign_scheduler(spec, settings)
    return edits


def _keep_container(container: Json, stood: Json, path: Path, settings: Settings) -> Edits:
    edits = Edits()
    resources, kept = child(container, "resources"), child(stood, "resources")
    for part in ("limits", "requests"):
        now, then = _amounts(resources, part, settings), _amounts(kept, part, settings)
        wanted = {name: then.get(name) for name in (*now, *then)}
        edits += Edits(edit_map((*path, "resources", part), resources.get(part), wanted))
    priority = task_priority(stood)
    return edits if priority is None else edits + set_task_priority(container, path, priority)


def _words(template: Json, settings: Settings) -> object:
    """All that is said of cards, in a form that compares."""
    spec, notes = child(template, "spec"), child(child(template, "metadata"), "annotations")
    try:
        containers = [
            (stage, *(_amounts(child(container, "resources"), part, settings) for part in ("limits", "requests")))
            for _, container, stage in numbered(spec)
        ]
        asks = bool(mentioned_card(spec, settings.vendors))
    except WireError:
        return template
    keys = (*_WISHES, *(key for names in settings.vendors for key in names.selection))
    how = [notes.get(key) for key in keys], [spec.get(key) for key in ("nodeSelector", "nodeName", "schedulerName")]
    return containers, asks and how


def _amounts(resources: Json, part: str, settings: Settings) -> dict[str, Any]:
    words = {name for names in settings.vendors for name in names.all}
    return {
        name: value
        for name, value in child(resources, part).items()
        if name in words or str(name).startswith(f"{QUOTA_DOMAIN}/")
    }
