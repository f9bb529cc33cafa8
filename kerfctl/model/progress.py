"""Where the pods of a deployment are on their way, as sentences."""

from collections.abc import Iterable, Iterator

from kerf.wire.json import Json, at, items_at, text_at

CRASHES = 3
"""Restarts after which a container is not waited for."""
HOPELESS = frozenset({"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"})


def progress(pods: Iterable[Json]) -> dict[str, str]:
    """What each pod waits for, by name."""
    return {text_at(pod, "metadata", "name"): _sentence(pod) for pod in pods}


def failures(pods: Iterable[Json]) -> Iterator[str]:
    """What will not mend itself."""
    for pod in pods:
        name = text_at(pod, "metadata", "name")
        for status in _statuses(pod):
            waiting = at(status, "state", "waiting")
            if waiting.get("reason") in HOPELESS:
                yield f"{name}: {status.get('name')}: {waiting.get('reason')}: {waiting.get('message', '')}"
            elif int(status.get("restartCount") or 0) >= CRASHES and not status.get("ready"):
                yield f"{name}: {_ended(status)}: {_logs(pod, status)}"


def _ended(status: Json) -> str:
    code = at(status, "lastState", "terminated").get("exitCode", "unknown")
    return f"{status.get('name')} ended {status['restartCount']} times, last with exit status {code}"


def _logs(pod: Json, status: Json) -> str:
    meta = at(pod, "metadata")
    return f"kubectl logs -n {meta.get('namespace')} {meta.get('name')} -c {status.get('name')} --previous"


def _statuses(pod: Json) -> tuple[Json, ...]:
    return (*items_at(pod, "status", "initContainerStatuses"), *items_at(pod, "status", "containerStatuses"))


def _why(waiting: Json) -> str:
    """What an image could not be fetched for: a wrong name looks like a slow registry otherwise."""
    return f": {text_at(waiting, 'message')[:300]}" if waiting.get("reason") == "ErrImagePull" else ""


def _sentence(pod: Json) -> str:
    if at(pod, "metadata").get("deletionTimestamp"):
        return "ends"
    conditions = {text_at(each, "type"): each for each in items_at(pod, "status", "conditions")}
    if text_at(conditions.get("Ready", {}), "status") == "True":
        return "is ready"
    scheduled = conditions.get("PodScheduled", {})
    if not text_at(pod, "spec", "nodeName"):
        return f"waits for a place: {text_at(scheduled, 'message') or 'not looked at yet'}"
    for status in _statuses(pod):
        waiting = at(status, "state", "waiting")
        if waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            return f"{status.get('name')}: {waiting['reason']}{_why(waiting)}"
        if status.get("name") == "fetch" and "running" in at(status, "state"):
            return f"fetches its weights on {text_at(pod, 'spec', 'nodeName')}"
        if status.get("name") == "server" and "running" in at(status, "state"):
            return f"loads the model on {text_at(pod, 'spec', 'nodeName')}"
    return f"starts on {text_at(pod, 'spec', 'nodeName')}"
