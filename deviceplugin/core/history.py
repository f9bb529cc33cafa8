"""The node's own history: which pods held slices here, and what servers of models held at most. Pure.

It is for a scheduler that did not run meanwhile, and for what it learns of models.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from kerf.values.grant import Holding, card_uses
from kerf.values.learned import ServerPeak
from kerf.values.units import MIB
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.limiter import LedgerView
from kerf.wire.records import PodRecord
from kerf.wire.subject import MODEL, SERVES, subject_of

KEEP_MS = 7 * 24 * 3_600_000
MOST_ENDED = 5000
MOST_LETTERS = 8192
"""Of a container's command and arguments together; a longer one is not recorded."""
STOPPED = frozenset({0, 143})
"""Exit statuses of a server that was stopped."""


def begun(pod: Json, holding: Holding, now_ms: int) -> PodRecord:
    """The record of a pod that was admitted; it began when it was bound."""
    namespace, _, name = holding.pod.partition("/")
    subject = subject_of(pod)
    uses = card_uses(holding.grant, holding.stages)
    start = subject.bound_ms or now_ms
    servers = tuple(_servers(pod, holding))
    return PodRecord(holding.uid, namespace, name, subject.workload, subject.model, start, 0, uses, servers)


def _servers(pod: Json, holding: Holding) -> Iterable[ServerPeak]:
    """The containers with slices, where the pod names its model."""
    notes = at(pod, "metadata", "annotations")
    model = next((text for key in (MODEL, SERVES) if isinstance(text := notes.get(key), str)), "")
    for container in items_at(pod, "spec", "containers") if model else ():
        slices = holding.grant.of(text_at(container, "name"))
        command, args = _texts(container, "command"), _texts(container, "args")
        image = text_at(container, "image")
        if slices and sum(map(len, (model, image, *command, *args))) <= MOST_LETTERS:
            limit = max(piece.memory_mib for piece in slices)
            yield ServerPeak(text_at(container, "name"), model, image, command, args, len(slices), limit)


def _texts(container: Json, key: str) -> tuple[str, ...]:
    listed = container.get(key)
    return tuple(str(word) for word in listed) if isinstance(listed, list) else ()


def seen(record: PodRecord, ledgers: Mapping[str, LedgerView], pod: Json | None) -> PodRecord:
    """The record with what the containers' ledgers say now, and whether one of their starts failed."""
    failed = _failed(pod) if pod is not None else frozenset()
    servers = tuple(_seen(each, ledgers.get(each.container), failed) for each in record.servers)
    return record if servers == record.servers else replace(record, servers=servers)


def restarted(record: PodRecord, container: str, ledger: LedgerView) -> PodRecord:
    """The record once a container's ledger gives way to a fresh one; the same one if nothing ran on it."""
    if not any(card.peak_bytes for card in ledger.cards):
        return record
    found = seen(record, {container: ledger}, None)
    servers = tuple(
        replace(each, denied_before=each.denied, starts=each.starts + 1) if each.container == container else each
        for each in found.servers
    )
    return replace(found, servers=servers)


def _seen(server: ServerPeak, ledger: LedgerView | None, failed: Collection[str]) -> ServerPeak:
    found = replace(server, failed=True) if server.container in failed and not server.failed else server
    if ledger is None:
        return found
    peak = max((card.peak_bytes for card in ledger.cards), default=0)
    denied = server.denied_before + sum(card.denied for card in ledger.cards)
    return replace(found, peak_mib=max(server.peak_mib, -(-peak // MIB)), denied=max(server.denied, denied))


def _failed(pod: Json) -> frozenset[str]:
    """Containers of which a start is known to have ended with an error."""
    found = set()
    for status in items_at(pod, "status", "containerStatuses"):
        for state in ("state", "lastState"):
            code = at(status, state, "terminated").get("exitCode")
            if isinstance(code, int) and code not in STOPPED:
                found.add(text_at(status, "name"))
    return frozenset(found)


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
