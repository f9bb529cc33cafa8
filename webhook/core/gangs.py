"""What Kerf writes into templates about gangs, where the pods by themselves do not say enough."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kerf.wire.gangs import GANG, GANG_PART, GANG_SIZE, starts_leader_first
from kerf.wire.json import Json, at, items_at
from webhook.core.draft import Draft, changed

JOB_SET = ("jobset.x-k8s.io", "JobSet")
LEADER_WORKER_SET = ("leaderworkerset.x-k8s.io", "LeaderWorkerSet")
_MARKS = (GANG_SIZE, GANG_PART)


def mark_gangs(kind: tuple[str, str], item: Json, drafts: Sequence[Draft]) -> list[Draft]:
    """The templates with the size of their gang.

    A JobSet's pods that ask for cards start together; where its jobs start in order, those of each job. The workers of
    a LeaderWorkerSet that waits for its leaders are made too late to start with them, so such groups are no gangs.
    """
    if any(_says_itself(draft) for draft in drafts):
        return list(drafts)
    if kind == LEADER_WORKER_SET and starts_leader_first(item):
        return [_marked(draft, {GANG_SIZE: "1"}) for draft in drafts]
    return _job_set(item, drafts) if kind == JOB_SET else list(drafts)


def keep_marks(draft: Draft, old: Draft | None) -> Draft:
    """What was written stays: a file applied again by replacement does not have it."""
    before = old.annotations if old else {}
    missing = {key: before[key] for key in _MARKS if key in before and key not in draft.annotations}
    return replace(draft, annotations=changed(draft.annotations, missing)) if missing else draft


def _job_set(item: Json, drafts: Sequence[Draft]) -> list[Draft]:
    jobs = items_at(item, "spec", "replicatedJobs")
    ordered = at(item, "spec", "startupPolicy").get("startupPolicyOrder") == "InOrder"
    ordered = ordered or any(job.get("dependsOn") for job in jobs)
    counts = {draft.path: _pods(item, draft) for draft in drafts if draft.ask.containers}
    total = sum(counts.values())
    found = []
    for draft in drafts:
        size = counts.get(draft.path, 0) if ordered else total
        part = {GANG_PART: "true"} if ordered else {}
        found.append(_marked(draft, {GANG_SIZE: str(size), **part}) if size > 1 else draft)
    return found


def _pods(item: Json, draft: Draft) -> int:
    """How many pods one job of a JobSet makes at a time, over its replicas."""
    jobs, number = at(item, "spec").get("replicatedJobs"), draft.path[2]
    job = jobs[number] if isinstance(jobs, list) and isinstance(number, int) else {}
    spec = at(job, "template", "spec")
    parallel = _count(spec, "parallelism", 1)
    return _count(job, "replicas", 1) * min(parallel, _count(spec, "completions", parallel))


def _count(values: Json, key: str, default: int) -> int:
    number = values.get(key, default) if isinstance(values, Mapping) else default
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else default


def _marked(draft: Draft, notes: Mapping[str, str]) -> Draft:
    return replace(draft, annotations=changed(draft.annotations, notes)) if draft.ask.containers else draft


def _says_itself(draft: Draft) -> bool:
    return GANG in draft.labels or any(key in draft.annotations or key in draft.labels for key in _MARKS)
