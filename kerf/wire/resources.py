"""A pod's JSON to its ask: the pod contract that users of HAMi write, with every default resolved.

The same reading serves webhook, scheduler, device plugin and quota, so all of them count the same number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from kerf.values.ask import ContainerAsk, PodAsk, Reach, Selection, Stage, Stages, Wishes
from kerf.values.device import MODE_WORDS
from kerf.values.policy import Defaults
from kerf.values.traits import ORDINARY
from kerf.values.units import milli, to_mib
from kerf.values.words import ResourceNames
from kerf.wire.accepts import parse_chosen
from kerf.wire.classes import selected_classes
from kerf.wire.container_asks import amounts_of, parse_container, resources_field, whole_of
from kerf.wire.errors import WireError
from kerf.wire.fleet_places import part_of
from kerf.wire.gangs import gang_of
from kerf.wire.json import Json, at, items_at
from kerf.wire.node_demand import demand_of
from kerf.wire.subject import MODEL, SERVES
from kerf.wire.traits import traits_of

MOST_ASKED = 2**40
"""Thousandths of a core, or MiB: more than any node has. Larger asks ("9E") are capped so that sums cannot overflow."""
NODE_POLICY = "hami.io/node-scheduler-policy"
CARD_POLICY = "hami.io/gpu-scheduler-policy"
WEIGHTS = "hami.io/device-scoring-weights"
MODE = "kerf.dev/mode"
SAME_MODEL = "kerf.dev/same-card-model"
"""Annotation: whether all cards of a container are of one model; the default is yes for pods that name their model."""
"""Annotation: the modes of cards that a pod accepts, a comma list, of any vendor's cards."""
ADMISSION = "kerf.dev/admission"
"""Annotation in which the fit check names the Workload of a pod. Forged, it reaches no other namespace's places."""


def parse_pod(pod: Json, vendors: tuple[ResourceNames, ...], defaults: Defaults) -> PodAsk:
    """A pod's ask over all vendors. Raises WireError that names the field, the value and the fix."""
    return parse_pod_by_container(pod, vendors, defaults)[0]


def parse_pod_by_container(
    pod: Json, vendors: tuple[ResourceNames, ...], defaults: Defaults
) -> tuple[PodAsk, tuple[tuple[ContainerAsk, ...], ...]]:
    """A pod's ask, and what each of its containers asks of each vendor, in start order. Raises WireError."""
    try:
        notes = at(pod, "metadata", "annotations")
        asks = tuple(
            tuple(_asks(container, stage, vendors, defaults, notes))
            for container, stage in containers_of(at(pod, "spec"))
        )
        return _pod_ask(pod, vendors, [ask for of_one in asks for ask in of_one]), asks
    except RecursionError as error:  # a text was expected and something too deep to print was sent
        raise WireError("pod", "…", "nest its values less deeply") from error


def _asks(
    container: Json, stage: Stage, vendors: tuple[ResourceNames, ...], defaults: Defaults, notes: Json
) -> Iterator[ContainerAsk]:
    domains = {name.partition("/")[0] for name in amounts_of(container)}
    for names in vendors:
        if names.domain in domains and (ask := parse_container(container, stage, names, defaults, notes)):
            yield ask


def _pod_ask(pod: Json, vendors: tuple[ResourceNames, ...], asks: list[ContainerAsk]) -> PodAsk:
    meta = at(pod, "metadata")
    spec = at(pod, "spec")
    annotations = at(meta, "annotations")
    used = [names for names in vendors if any(ask.vendor == names.vendor for ask in asks)]
    for names in used:
        _check_together(names, tuple(ask for ask in asks if ask.vendor == names.vendor))
    cpu, memory = effective_requests(spec)
    gang, size = gang_of(meta, spec)
    return PodAsk(
        namespace=str(meta.get("namespace") or "default"),
        name=str(meta.get("name") or meta.get("generateName") or ""),
        uid=str(meta.get("uid") or ""),
        containers=tuple(asks),
        selection=_selection(annotations, spec, used),
        wishes=_wishes(annotations, used, asks) if asks else Wishes(),
        cpu_milli=cpu,
        memory_mib=memory,
        priority=_priority(spec),
        task_priority=_task_priority(spec, used or vendors),
        gang=gang,
        gang_size=size,
        traits=traits_of(spec) if asks else ORDINARY,
        owner=owner_of(meta),
        admission=str(annotations.get(ADMISSION) or "")[:64],
        nodes=demand_of(spec) if asks else "",
        chosen=parse_chosen(annotations),
        part=part_of(meta),
    )


def _check_together(names: ResourceNames, asks: tuple[ContainerAsk, ...]) -> None:
    """Raises WireError where the vendor's plugin cannot serve these asks of one pod."""
    refusal = names.refuses_pod(asks)
    if refusal:
        last = asks[-1]
        where = f"spec.{'containers' if last.stage is Stage.APP else 'initContainers'}[{last.name[:63]}]"
        raise WireError(f"{where}.resources", f"{names.domain}/…", refusal)


def reach_of(pod: Json, vendors: Iterable[ResourceNames]) -> Reach:
    """Which cards a pod may take that asks for those of these vendors. Raises WireError."""
    notes, spec, used = at(pod, "metadata", "annotations"), at(pod, "spec"), list(vendors)
    try:
        group = used[0].group_of(notes) if used else ""
    except ValueError as error:
        raise WireError(
            f"metadata.annotations[{used[0].group_key}]", notes.get(used[0].group_key), str(error)
        ) from error
    return _known_reach(_selection(notes, spec, used).of_cards(), group, demand_of(spec))


@lru_cache(maxsize=1024)
def _known_reach(selection: Selection, group: str, nodes: str) -> Reach:
    """One value for all pods that see the same cards."""
    return Reach(selection, group, nodes)


def owner_of(meta: Json) -> str:
    """The uid of the object's controller; empty where it has none."""
    owners = (owner for owner in items_at(meta, "ownerReferences") if owner.get("controller") is True)
    return next((str(owner.get("uid") or "")[:64] for owner in owners), "")


def is_privileged(container: Json) -> bool:
    """Whether a container may use every device of its node."""
    return at(container, "securityContext").get("privileged") is True


def containers_of(spec: Json) -> Iterator[tuple[Json, Stage]]:
    """Init containers first, in declared order, then app containers."""
    for container in _items(spec.get("initContainers"), "spec.initContainers"):
        sidecar = container.get("restartPolicy") == "Always"
        yield container, Stage.SIDECAR if sidecar else Stage.INIT
    for container in _items(spec.get("containers"), "spec.containers"):
        yield container, Stage.APP


def stages_of(spec: Json) -> Stages:
    """The pod's containers with their stages, as `kerf.values.grant.card_uses` wants them."""
    return tuple((str(container.get("name", "")), stage) for container, stage in containers_of(spec))


def effective_requests(spec: Json, status: Json | None = None) -> tuple[int, int]:
    """The pod's CPU (thousandths of a core) and memory (MiB) by the effective-request rule, overhead included.

    With the status of a bound pod, a container that is resized in place counts as kube-scheduler counts it: the larger
    of what it asks and what the kubelet allocated, or the allocated alone where the node can never give more.
    """
    running = [0, 0]
    peak = [0, 0]
    told = status or {}
    allocated = _allocated(told)
    for container, stage in containers_of(spec):
        asked = _in_effect(_cpu_memory(at(container, "resources")), allocated.get(str(container.get("name"))), told)
        for i in (0, 1):
            peak[i] = max(peak[i], running[i] + asked[i])
            if stage is not Stage.INIT:
                running[i] += asked[i]
    whole_pod = at(spec, "resources", "requests")
    if whole_pod:  # pod-level resources (Kubernetes 1.34) replace the sum of the containers
        asked = _in_effect(_cpu_memory({"requests": whole_pod}), _given(told), told)
        peak = [asked[0] if "cpu" in whole_pod else peak[0], asked[1] if "memory" in whole_pod else peak[1]]
    overhead = _cpu_memory({"requests": spec.get("overhead")})
    return peak[0] + overhead[0], peak[1] + overhead[1]


def _allocated(status: Json) -> dict[str, tuple[int, int]]:
    """By container, the CPU and memory that the kubelet gave it; only of containers whose status says so."""
    found = {}
    for part in ("initContainerStatuses", "containerStatuses"):
        for each in items_at(status, part):
            if (given := _given(each)) is not None:
                found[str(each.get("name"))] = given
    return found


def _given(status: Json) -> tuple[int, int] | None:
    """The CPU and memory that the kubelet gave to a container or to a whole pod; None where its status says nothing."""
    amounts = (status.get("allocatedResources"), at(status, "resources").get("requests"))
    given = [_cpu_memory({"requests": part}) for part in amounts if isinstance(part, dict)]
    return (max(cpu for cpu, _ in given), max(memory for _, memory in given)) if given else None


def _in_effect(asked: tuple[int, int], given: tuple[int, int] | None, status: Json) -> tuple[int, int]:
    if given is None:
        return asked
    return given if _never_resized(status) else (max(asked[0], given[0]), max(asked[1], given[1]))


def _never_resized(status: Json) -> bool:
    return any(
        each.get("type") == "PodResizePending" and each.get("status") == "True" and each.get("reason") == "Infeasible"
        for each in items_at(status, "conditions")
    )


def _cpu_memory(resources: Json) -> tuple[int, int]:
    amounts = {**at(resources, "limits"), **at(resources, "requests")}
    try:
        asked = milli(amounts.get("cpu", 0)), to_mib(amounts.get("memory", 0))
    except ValueError as error:
        raise WireError("resources.requests", amounts, f"write a Kubernetes quantity ({error})") from error
    return min(asked[0], MOST_ASKED), min(asked[1], MOST_ASKED)


def _selection(annotations: Json, spec: Json, vendors: list[ResourceNames]) -> Selection:
    """What the pod selects, each vendor's cards by the vendor's own words.

    With cards of several vendors a pod can only avoid cards by id: every other word would bar the others' cards.
    """
    found = [_selection_of(annotations, spec, names) for names in vendors]
    if len(found) < 2:
        return found[0] if found else Selection()
    for names, selection in zip(vendors, found, strict=True):
        if replace(selection, avoid_ids=(), classes=(), same_card=(), same_model=False) != Selection():
            chosen = (*names.selection, MODE)
            said = next(key for key in chosen if key != names.avoid_ids and annotations.get(key))
            fix = "a pod with cards of several vendors cannot choose among them: drop it, or use one vendor a pod"
            raise WireError(f"metadata.annotations[{said}]", annotations[said], fix)
    avoided = {card for selection in found for card in selection.avoid_ids}
    together = tuple(vendor for each in found for vendor in each.same_card)
    return Selection(
        avoid_ids=tuple(sorted(avoided)),
        classes=found[0].classes,
        same_model=found[0].same_model,
        same_card=together,
    )


def _selection_of(annotations: Json, spec: Json, names: ResourceNames) -> Selection:
    numa = str(annotations.get(names.same_numa, "false")).strip().lower()
    if numa not in {"", "true", "false"}:
        raise WireError(f"metadata.annotations[{names.same_numa}]", numa, 'write "true" or "false"')
    return Selection(
        use_ids=_csv(annotations, names.use_ids),
        avoid_ids=_csv(annotations, names.avoid_ids),
        use_types=tuple(sorted({word.lower() for word in _csv(annotations, names.use_types)})),
        avoid_types=tuple(sorted({word.lower() for word in _csv(annotations, names.avoid_types)})),
        modes=_modes(annotations, names),
        classes=selected_classes(at(spec, "nodeSelector")),
        same_numa=numa == "true",
        same_model=_same_model(annotations),
        same_card=(names.vendor,) if names.same_card else (),
    )


def _same_model(annotations: Json) -> bool:
    """Whether the cards of a container are to be of one model: as the pod says, else where it names its model."""
    written = str(annotations.get(SAME_MODEL, "")).strip().lower()
    if written not in {"", "true", "false"}:
        raise WireError(f"metadata.annotations[{SAME_MODEL}]", written, 'write "true" or "false"')
    return written == "true" or (not written and bool({MODEL, SERVES} & annotations.keys()))


def _modes(annotations: Json, names: ResourceNames) -> tuple[str, ...]:
    """The modes that the pod accepts, by the vendor's annotation and by Kerf's own: where both are there, by both."""
    theirs = _modes_at(annotations, names.modes, dict(names.mode_words)) if names.modes else frozenset()
    ours = _modes_at(annotations, MODE, dict(MODE_WORDS))
    if theirs and ours and not theirs & ours:
        fix = f"accept a mode that {names.modes} accepts too, or drop one of the two"
        raise WireError(f"metadata.annotations[{MODE}]", annotations[MODE], fix)
    return tuple(sorted(theirs & ours or theirs | ours))


def _modes_at(annotations: Json, key: str, words: dict[str, str]) -> frozenset[str]:
    modes = _csv(annotations, key)
    unknown = [mode for mode in modes if mode not in words]
    if unknown:
        raise WireError(f"metadata.annotations[{key}]", unknown[0], f"use one of {', '.join(words)}")
    return frozenset(words[mode] for mode in modes)


def _wishes(annotations: Json, vendors: list[ResourceNames], asks: list[ContainerAsk]) -> Wishes:
    node = str(annotations.get(NODE_POLICY, "")).strip() or None
    cards = tuple(word.strip() for word in str(annotations.get(CARD_POLICY, "")).split(",") if word.strip())
    joined = {names.vendor for names in vendors if names.linked}
    if "topology" not in cards and any(ask.vendor in joined and ask.cards > 1 for ask in asks):
        cards = (*cards, "topology")
    return Wishes(node_policy=node, card_policies=cards, weights=_weights(annotations))


def _weights(annotations: Json) -> tuple[int, int, int] | None:
    text = annotations.get(WEIGHTS)
    if text is None:
        return None
    fix = 'write all three as whole numbers, one of them positive: "slot=1,core=1,memory=3"'
    try:
        pairs = dict(part.strip().split("=") for part in str(text).split(","))
        weights = (int(pairs["slot"]), int(pairs["core"]), int(pairs["memory"]))
    except (ValueError, KeyError) as error:
        raise WireError(f"metadata.annotations[{WEIGHTS}]", text, fix) from error
    if len(pairs) != 3 or min(weights) < 0 or max(weights) == 0 or max(weights) > 1000:
        raise WireError(f"metadata.annotations[{WEIGHTS}]", text, fix)
    return weights


def _priority(spec: Json) -> int:
    value = spec.get("priority") or 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError("spec.priority", value, "write a whole number")
    return value


def _task_priority(spec: Json, vendors: Iterable[ResourceNames]) -> int:
    found = [
        whole_of(amounts_of(container), names.priority, resources_field(container, stage), most=1)
        for container, stage in containers_of(spec)
        for names in vendors
        if names.priority
    ]
    return min((value for value in found if value is not None), default=1)


def _csv(annotations: Json, key: str) -> tuple[str, ...]:
    return tuple(sorted({word.strip() for word in str(annotations.get(key) or "").split(",") if word.strip()}))


def _items(value: object, where: str) -> Iterator[Json]:
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise WireError(where, value, "write a list of containers")
    yield from value
