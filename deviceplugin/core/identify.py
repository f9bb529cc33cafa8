"""Which pod holds these slots, and which of its containers is about to start.

PreStartContainer receives slot ids and nothing else. This relies on these facts of kubelet 1.36:

1. A slot belongs to at most one live pod. PodResources lists the slots of app and sidecar containers. They are
   disjoint within a pod as well, so exact ids identify exactly one of them.
2. A plain init container is *not* listed. Its slots are given to later containers of the same pod, so the same ids may
   belong to several plain init containers and to at most one app or sidecar container.
3. The kubelet keeps the answer of Allocate per container, in its checkpoint too, and passes it to the runtime at every
   start. Each Allocate of the same slots returns another CDI name (`slots.turn_name`), so it is enough to know which
   container holds which name: the specs of *all* sharers are written at any start, and the runtime picks the right
   one. It does not matter which of them starts now.

The checkpoint is the kubelet's private file, so it is read only where the public API has no answer: for pods with
plain init containers that hold as many cards. Without it such a pod starts only if all sharers hold equal slices.
"""

from collections import Counter
from dataclasses import dataclass

from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.core.slots import turn_names
from deviceplugin.core.start import Start
from kerf.values.ask import Stage
from kerf.values.grant import Holding

Slots = tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """Slots that PodResources reports for an app or sidecar container, sorted."""

    namespace: str
    pod: str
    container: str
    slots: Slots


@dataclass(frozen=True, slots=True, order=True)
class Recorded:
    """An entry of the kubelet's checkpoint: a container's slots, sorted, and the CDI names that Allocate returned."""

    uid: str
    container: str
    slots: Slots
    names: tuple[str, ...]


def owner_of(slots: Slots, held: tuple[Held, ...]) -> tuple[str, str] | StartRefusal | None:
    """(namespace, name) of the pod that holds any of the slots. None if PodResources lists none."""
    wanted = set(slots)
    pods = sorted({(entry.namespace, entry.pod) for entry in held if wanted & set(entry.slots)})
    if len(pods) > 1:
        names = ", ".join("/".join(pod) for pod in pods)
        message = f"the kubelet reports slots {', '.join(slots)} for several pods: {names}"
        return StartRefusal(Why.AMBIGUOUS, message, lasting=False)
    return pods[0] if pods else None


def owner_uid_of(slots: Slots, recorded: tuple[Recorded, ...], live: frozenset[str]) -> str | None:
    """The uid of the live pod whose containers hold exactly these slots in the kubelet's checkpoint, or None."""
    uids = {entry.uid for entry in recorded if entry.slots == slots and entry.uid in live}
    return uids.pop() if len(uids) == 1 else None


def starts(
    slots: Slots, pod: Holding, held: tuple[Held, ...], recorded: tuple[Recorded, ...] | None
) -> tuple[Start, ...] | StartRefusal:
    """The containers of `pod`, which holds cards of these slots' vendor only, that may start with them.

    `recorded` is None where the kubelet's checkpoint cannot be read.
    """
    exact = [entry for entry in recorded or () if entry.slots == slots]
    if exact and all(entry.uid != pod.uid for entry in exact):
        message = f"slots {', '.join(slots)} belong to another pod than the {pod.pod} that is bound here now"
        return StartRefusal(Why.UNKNOWN_POD, message, lasting=False)
    namespace, _, name = pod.pod.partition("/")
    listed = [h.container for h in held if (h.namespace, h.pod, h.slots) == (namespace, name, slots)]
    inits = [n for n, stage in pod.stages if stage is Stage.INIT and len(pod.grant.of(n)) == len(slots)]
    if listed and not inits:
        return _counted(slots, pod, (Start(listed[0], turn_names(slots)),))
    mine = [entry for entry in exact if entry.uid == pod.uid]
    if {entry.container for entry in mine} >= set(listed) and mine:
        return _counted(slots, pod, _by_record(slots, pod, mine))
    return _counted(slots, pod, _without_record(slots, pod, [*inits, *listed]))


def _by_record(slots: Slots, pod: Holding, mine: list[Recorded]) -> tuple[Start, ...] | StartRefusal:
    if len({pod.grant.of(entry.container) for entry in mine}) == 1:
        return (Start(mine[-1].container, turn_names(slots)),)
    names = Counter(name for entry in mine for name in entry.names)
    if any(count > 1 for count in names.values()) or not all(entry.names for entry in mine):
        return _ambiguous(slots, pod, [entry.container for entry in mine])
    return tuple(Start(entry.container, entry.names) for entry in sorted(mine))


def _without_record(slots: Slots, pod: Holding, sharers: list[str]) -> tuple[Start, ...] | StartRefusal:
    if not sharers:
        message = f"the kubelet does not report which container of pod {pod.pod} holds slots {', '.join(slots)}"
        return StartRefusal(Why.UNKNOWN_POD, message, lasting=False)
    if len({pod.grant.of(name) for name in sharers}) > 1:
        return _ambiguous(slots, pod, sharers)
    return (Start(sharers[-1], turn_names(slots)),)


def _ambiguous(slots: Slots, pod: Holding, sharers: list[str]) -> StartRefusal:
    return StartRefusal(
        Why.AMBIGUOUS,
        f"containers {', '.join(sharers)} of pod {pod.pod} share slots {', '.join(slots)} but hold different slices, "
        "and the kubelet's checkpoint does not distinguish them: give them equal slices, or delete the pod",
    )


def _counted(slots: Slots, pod: Holding, found: tuple[Start, ...] | StartRefusal) -> tuple[Start, ...] | StartRefusal:
    if isinstance(found, StartRefusal):
        return found
    for start in found:
        cards = len(pod.grant.of(start.container))
        if cards != len(slots):
            message = (
                f"container {start.container} of pod {pod.pod} was granted {cards} cards, the kubelet gave it "
                f"{len(slots)} slots"
            )
            return StartRefusal(Why.NO_GRANT if not cards else Why.BAD_GRANT, message)
    return found
