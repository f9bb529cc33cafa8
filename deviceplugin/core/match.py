"""The fallback for runtimes without CDI: which container is this Allocate for? It refuses rather than guesses.

Without CDI, Allocate must return everything, and its request names no pod. Known are the number of slots, and which
pods are bound to this node with containers that have not been allocated yet. PreStartContainer then verifies the match
against PodResources, so a container can never start with another pod's slices.
"""

from dataclasses import dataclass

from deviceplugin.core.refusal import StartRefusal, Why


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pod bound here that may still have containers to allocate, in the kubelet's order: init first."""

    pod: str
    uid: str
    containers: tuple[tuple[str, int], ...]
    """(container, cards) of those that hold cards."""
    allocated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """The only container that an Allocate can be for."""

    uid: str
    container: str


def match(cards: int, pods: tuple[Waiting, ...]) -> Match | StartRefusal:
    """The container that `cards` slots are for, or a refusal where no container or more than one matches."""
    found = []
    for pod in sorted(pods, key=lambda pod: (pod.pod, pod.uid)):
        following = next((c for c in pod.containers if c[0] not in pod.allocated), None)
        if following is not None and following[1] == cards:
            found.append((pod, following[0]))
    if not found:
        message = f"no pod bound to this node waits for {cards} cards"
        return StartRefusal(Why.UNKNOWN_POD, message, lasting=False)
    if len(found) > 1:
        names = ", ".join(f"{pod.pod} ({container})" for pod, container in found)
        message = (
            f"{len(found)} containers wait for {cards} cards and without CDI the kubelet does not report which one "
            f"this is: {names}; enable CDI in the container runtime"
        )
        return StartRefusal(Why.AMBIGUOUS, message, lasting=False)
    pod, container = found[0]
    return Match(pod.uid, container)
