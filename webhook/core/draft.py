"""A draft: an object under review as Kerf would store it. Steps take a draft and return another, or raise WireError.

The object is read once, into values. No step writes JSON: `patch` compares at the end what was sent with what the
last draft would store.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any

from kerf.values.accounts import ClassAccount
from kerf.values.ask import ContainerAsk, PodAsk, Stage
from kerf.values.device import Card
from kerf.values.units import parse_quantity
from kerf.wire.admission import PatchOp, pointer
from kerf.wire.container_asks import resources_field
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.resources import containers_of

Path = tuple[str | int, ...]
NO_ASK = PodAsk("", "", "")
_UNKNOWN = Card("", 0, "", "", memory_mib=0)


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of one vendor that a tenant's pod may get, with `smallest_mib` 0 while none is known."""

    tenant: str
    classes: tuple[ClassAccount, ...] = ()
    samples: tuple[Card, ...] = ()
    """The smallest card of each class."""

    @property
    def smallest(self) -> Card:
        """The smallest card: what an ask takes of it is counted. Of no vendor while no card is known."""
        return min(self.samples, key=lambda card: card.factory_memory_mib, default=_UNKNOWN)

    @property
    def smallest_mib(self) -> int:
        """MiB of the smallest card. Percentages are counted against it."""
        return min((entry.smallest_mib for entry in self.classes), default=0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every size of card in MiB, ascending."""
        return tuple(sorted({size for entry in self.classes for size in (entry.smallest_mib, entry.largest_mib)}))

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return tuple(dict.fromkeys(entry.model for entry in self.classes))


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a draft. `limits`, `requests`, `env` and `args` are what Kerf would store."""

    sent: Json
    part: str
    """`containers` or `initContainers`."""
    stage: Stage
    amounts: Json
    """Limits and requests as they were sent, or as a model needs them; where both name a resource, the limit."""
    limits: Json
    requests: Json
    env: tuple[Any, ...]
    args: tuple[Any, ...] = ()
    asks: tuple[ContainerAsk, ...] = ()
    """What the container asks, at most one ask for each vendor."""
    changed: bool = False
    """Whether it would be stored otherwise than it was sent."""

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.sent.get("name", ""))

    @property
    def where(self) -> str:
        """The path of the container as people write it, from the pod on."""
        return f"spec.{self.part}[{self.name}]"

    @property
    def image(self) -> str:
        """The image that it runs."""
        return str(self.sent.get("image", ""))

    @property
    def command(self) -> tuple[Any, ...]:
        """What it runs in place of the image's entry point; empty for the entry point."""
        return _items(self.sent.get("command"))

    @property
    def limits_field(self) -> str:
        """The path of the limits as people write it, from the pod on."""
        return resources_field(self.sent, self.stage)

    def with_amounts(self, wanted: Json) -> "Container":
        """The container with these amounts as limits and requests; None removes a resource.

        "8k" and 8000 are one amount: what already says the same stays as the user wrote it.
        """
        limits, requests = (
            changed(
                held, {k: v for k, v in wanted.items() if v is None or k not in held or not same_amount(held[k], v)}
            )
            for held in (self.limits, self.requests)
        )
        return self.with_parts(limits, requests)

    def asking(self, wanted: Json) -> "Container":
        """The container as if the user had sent these amounts too; None removes a resource."""
        found = self.with_amounts(wanted)
        return self if found is self else replace(found, amounts=changed(self.amounts, wanted))

    def with_parts(self, limits: Json, requests: Json) -> "Container":
        """The container with these maps as limits and requests."""
        if limits is self.limits and requests is self.requests:
            return self
        return replace(self, limits=limits, requests=requests, changed=True)

    def with_args(self, args: tuple[Any, ...]) -> "Container":
        """The container with these arguments."""
        return self if args == self.args else replace(self, args=args, changed=True)

    def with_fields(self, **fields: str | list[str]) -> "Container":
        """The container with these fields in place of what was sent, such as `image`."""
        fresh = {key: value for key, value in fields.items() if self.sent.get(key) != value}
        return replace(self, sent={**self.sent, **fresh}, changed=True) if fresh else self

    def env_value(self, name: str) -> str | None:
        """The value of an environment variable; None where there is none, or where it comes from elsewhere."""
        found = (entry for entry in self.env if isinstance(entry, Mapping) and entry.get("name") == name)
        return next((str(entry["value"]) for entry in found if entry.get("value") is not None), None)

    def with_env(self, name: str, value: str) -> "Container":
        """The container with this environment variable, in place of a variable of the same name."""
        entry = {"name": name, "value": value}
        env = tuple(entry if isinstance(other, Mapping) and other.get("name") == name else other for other in self.env)
        return replace(self, env=env if entry in env else (*env, entry), changed=True)

    def without_env(self, name: str) -> "Container":
        """The container without this environment variable."""
        env = tuple(entry for entry in self.env if not (isinstance(entry, Mapping) and entry.get("name") == name))
        return self if len(env) == len(self.env) else replace(self, env=env, changed=True)

    def stored(self) -> Json:
        """The container as Kerf would store it."""
        if not self.changed:
            return self.sent
        stored = _with_parts(self.sent, "resources", limits=self.limits, requests=self.requests)
        lists = {"env": self.env, "args": self.args}
        return {**stored, **{key: list(now) for key, now in lists.items() if now != _items(self.sent.get(key))}}


@dataclass(frozen=True, slots=True)
class Draft:
    """An object under review: a pod, an object that makes pods, or a template at a path of such an object.

    `containers` are those of a pod or a template once `read_containers` has read them. `ask` and `cards` are known
    once the rules have read the pod.
    """

    sent: Json
    path: Path
    where: str
    """The path as people write it."""
    spec: Json
    """The `spec` as it was sent."""
    annotations: Json
    labels: Json
    scheduler_name: Any = None
    runtime_class: Any = None
    containers: tuple[Container, ...] = ()
    ask: PodAsk = NO_ASK
    cards: Mapping[str, Cards] = field(default_factory=dict)
    """By vendor, the cards of the tenant that may serve the pod; empty in a namespace without a tenant."""
    warnings: tuple[str, ...] = ()

    def warn(self, warnings: Iterable[str]) -> "Draft":
        """The draft with further sentences for the user, each of which begins with a field."""
        prefix = f"{self.where}." if self.where else ""
        more = tuple(prefix + warning for warning in warnings)
        return replace(self, warnings=self.warnings + more) if more else self

    def with_containers(self, containers: Iterable[Container]) -> "Draft":
        """The draft with these containers; the very same draft if none of them changed."""
        found = tuple(containers)
        return self if all(map(is_, found, self.containers)) else replace(self, containers=found)

    def with_asks(self, ask: PodAsk, by_container: Iterable[tuple[ContainerAsk, ...]]) -> "Draft":
        """The draft that asks this, container by container."""
        containers = tuple(
            replace(container, asks=asks) if asks else container
            for container, asks in zip(self.containers, by_container, strict=True)
        )
        return replace(self, ask=ask, containers=containers)

    def mentioned(self, resources: frozenset[str]) -> str:
        """The first of these resources that the pod or a container names, whatever the amount; "" for none."""
        whole = at(self.spec, "resources")
        holders = ({**at(whole, "requests"), **at(whole, "limits")}, *(each.amounts for each in self.containers))
        return next((min(found) for amounts in holders if (found := resources & amounts.keys())), "")

    def stored(self) -> Json:
        """The object as Kerf would store it. What no step changed is the very value that was sent."""
        stored = _with_parts(self.sent, "metadata", annotations=self.annotations, labels=self.labels)
        fields = {"schedulerName": self.scheduler_name, "runtimeClassName": self.runtime_class}
        changes = {key: value for key, value in fields.items() if value is not self.spec.get(key)}
        for part in {each.part for each in self.containers if each.changed}:
            changes[part] = [each.stored() for each in self.containers if each.part == part]
        return {**stored, "spec": {**self.spec, **changes}} if changes else stored


def draft_of(sent: Json, path: Path = (), where: str = "") -> Draft:
    """An object, without its containers: in objects of other kinds, and in live pods, they are of no concern."""
    meta, spec = at(sent, "metadata"), at(sent, "spec")
    return Draft(
        sent,
        path,
        where,
        spec,
        annotations=at(meta, "annotations"),
        labels=at(meta, "labels"),
        scheduler_name=spec.get("schedulerName"),
        runtime_class=spec.get("runtimeClassName"),
    )


def read_containers(draft: Draft) -> Draft:
    """The draft with its containers, in start order. Raises WireError."""
    return replace(draft, containers=tuple(_container(sent, stage) for sent, stage in containers_of(draft.spec)))


def _container(sent: Json, stage: Stage) -> Container:
    resources = at(sent, "resources")
    limits, requests = at(resources, "limits"), at(resources, "requests")
    part = "containers" if stage is Stage.APP else "initContainers"
    return Container(
        sent, part, stage, {**requests, **limits}, limits, requests, _items(sent.get("env")), _items(sent.get("args"))
    )


@contextmanager
def within(draft: Draft) -> Iterator[None]:
    """Name the fields of errors from the object on, not from the template."""
    try:
        yield
    except WireError as error:
        raise (WireError(f"{draft.where}.{error.field}", error.value, error.fix) if draft.where else error) from error


def changed(values: Json, changes: Json) -> Json:
    """The map with these values, None removing a key. The very same map if nothing changes."""
    if all(values.get(key) == value and (value is not None or key not in values) for key, value in changes.items()):
        return values
    merged = {**values, **changes}
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def same_amount(one: object, other: object) -> bool:
    """Whether two values are the same amount, in whatever notation."""
    if one == other:
        return True
    try:
        return parse_quantity(one) == parse_quantity(other)
    except ValueError:
        return False


def patch(drafts: Iterable[Draft]) -> tuple[PatchOp, ...]:
    """What turns the objects that were sent into the drafts."""
    operations: list[PatchOp] = []
    for draft in drafts:
        if (stored := draft.stored()) is not draft.sent:
            _compare(draft.path, draft.sent, stored, operations)
    return tuple(operations)


def difference(before: Any, after: Any) -> tuple[PatchOp, ...]:  # noqa: ANN401
    """The operations that turn one JSON value into another, in place wherever both are maps or lists."""
    operations: list[PatchOp] = []
    _compare((), before, after, operations)
    return tuple(operations)


def _compare(path: Path, before: Any, after: Any, out: list[PatchOp]) -> None:  # noqa: ANN401
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(
            key for key in before.keys() | after.keys() if before.get(key, out) is not after.get(key, out)
        ):
            if key not in after:
                out.append(PatchOp("remove", pointer(*path, key)))
            elif key not in before:
                out.append(PatchOp("add", pointer(*path, key), after[key]))
            else:
                _compare((*path, key), before[key], after[key], out)
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        for i, value in enumerate(before):
            if value is not after[i]:
                _compare((*path, i), value, after[i], out)
        out += (PatchOp("add", pointer(*path, "-"), value) for value in after[len(before) :])
    elif before != after:
        out.append(PatchOp("replace", pointer(*path), after))


def _with_parts(holder: Json, key: str, **parts: Json) -> Json:
    """The object with these maps in the map at `key`. A part that is missing stays away while it would be empty."""
    held = at(holder, key)
    changes = {part: values for part, values in parts.items() if values is not at(held, part)}
    return {**holder, key: {**held, **changes}} if changes else holder


def _items(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()
