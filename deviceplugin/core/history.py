"""The node's own history: which pods held slices here, for a scheduler that did not run meanwhile. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from kerf.values.grant import Holding, card_uses
from kerf.wire.json import Json
from kerf.wire.records import PodRecord
from kerf.wire.subject import subject_of

KEEP_MS = 7 * 24 * 3_600_000
MOST_ENDED = 5000


def begun(pod: Json, holding: Holding, now_ms: int) -> PodRecord:
    """The record of a pod that was admitted; it began when it was bound."""
    namespace, _, name = holding.pod.partition("/")
    subject = subject_of(pod)
    uses = card_uses(holding.grant, holding.stages)
    start = subject.bound_ms or now_ms
    return PodRecord(holding.uid, namespace, name, subject.workload, subject.model, start, 0, uses)


def after(records: Mapping[str, PodRecord], live: Collection[str], now_ms: int) -> tuple[list[PodRecord], list[str]]:
    """Records that end now because their pod is gone, and uids of records that are too old or too many."""
    ends = [replace(record, end_ms=now_ms) for uid, record in records.items() if not record.end_ms and uid not in live]
    ended = sorted((record.end_ms, uid) for uid, record in records.items() if record.end_ms)
    many = {uid for _, uid in ended[: max(len(ended) - MOST_ENDED, 0)]}
    return ends, sorted(many | {uid for end, uid in ended if end < now_ms - KEEP_MS})


def since(records: Iterable[PodRecord], moment_ms: int) -> tuple[PodRecord, ...]:
    """Records of pods that are there or ended after a moment, the oldest first."""
    found = [record for record in records if not record.end_ms or record.end_ms > moment_ms]
    return tuple(sorted(found, key=lambda record: (record.start_ms, record.uid)))
