"""What was applied, as the cluster has it now: which pods are of the newest template, and why there are none. Pure."""

from collections.abc import Iterable

from kerf.wire.json import Json, at, items_at, text_at

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
GROUPS = "leaderworkerset.sigs.k8s.io"
"""Begins the labels that LeaderWorkerSets give to pods and ControllerRevisions."""
FINAL = ("exceeded quota", "denied the request", "is forbidden", "is invalid")
"""Words of an API server that refuses pods until somebody changes something."""


def newest(owner: Json, sets: Iterable[Json], pods: Iterable[Json]) -> list[Json]:
    """The pods of a Deployment's newest template; of any other owner all.

    Pods of an older template go on serving while the new ones start: their answers say nothing about the new one.
    """
    if int(at(owner, "status").get("observedGeneration") or 0) < int(at(owner, "metadata").get("generation") or 0):
        return []
    revision = at(owner, "metadata", "annotations").get(REVISION)
    found = [each for each in sets if at(each, "metadata", "annotations").get(REVISION) == revision]
    hashes = {text_at(each, "metadata", "labels", HASH) for each in found if revision}
    return [pod for pod in pods if not hashes or text_at(pod, "metadata", "labels", HASH) in hashes]


def newest_groups(revisions: Iterable[Json], pods: Iterable[Json], older: int) -> list[Json]:
    """The pods of a LeaderWorkerSet's newest template; none while its newest revision is no newer than `older`."""
    last = max(revisions, key=_number, default={})
    if _number(last) <= older:
        return []
    key = text_at(last, "metadata", "labels", f"{GROUPS}/template-revision-hash")
    return [pod for pod in pods if text_at(pod, "metadata", "labels", f"{GROUPS}/template-revision-hash") == key]


def older_than(before: Json, after: Json, revisions: Iterable[Json]) -> int:
    """The number of the last revision of a LeaderWorkerSet's former template; -1 where the template is the same.

    Its controller writes the next one a moment after the change, and until then the former pods look like new ones.
    """
    same = at(before, "spec", "leaderWorkerTemplate") == at(after, "spec", "leaderWorkerTemplate")
    return -1 if same else max(map(_number, revisions), default=0)


def answers(pod: Json) -> bool:
    """Whether a pod listens for requests: of a group its leader alone."""
    return text_at(pod, "metadata", "labels", f"{GROUPS}/worker-index") in {"", "0"}


def _number(revision: Json) -> int:
    number = revision.get("revision")
    return number if isinstance(number, int) else 0


def refused(owner: Json) -> str:
    """Why the owner cannot make its pods; empty where it can."""
    for each in items_at(owner, "status", "conditions"):
        if text_at(each, "type") == "ReplicaFailure" and text_at(each, "status") == "True":
            return text_at(each, "message") or text_at(each, "reason")
    return ""


def is_final(refusal: str) -> bool:
    """Whether waiting will not help."""
    return any(words in refusal for words in FINAL)


def last_message(events: Iterable[Json]) -> str:
    """What the newest of some events says, in one line."""
    newest_event = max(events, key=_when, default={})
    return " ".join(text_at(newest_event, "message").split())[:300]


def _when(event: Json) -> str:
    return (
        text_at(event, "lastTimestamp")
        or text_at(event, "eventTime")
        or text_at(event, "metadata", "creationTimestamp")
    )
