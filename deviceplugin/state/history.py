"""The node's history on disk: written when a pod is admitted, ended when the clean-up finds it gone."""

import logging
import time
from collections.abc import Callable, Collection, Mapping

from deviceplugin.core.history import after, begun, restarted, seen, since
from deviceplugin.core.usage import ContainerRef
from deviceplugin.state.files import Files
from kerf.values.grant import Holding
from kerf.wire.errors import WireError
from kerf.wire.json import Json
from kerf.wire.limiter import LedgerView
from kerf.wire.records import PodRecord, parse_records, render_records

_LOG = logging.getLogger("kerf.deviceplugin.history")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class PodHistory:
    """Which pods held slices here and when. Raises OSError where the disk does."""

    def __init__(self, files: Files, now_ms: Callable[[], int] = _now_ms) -> None:
        self._files = files
        self._now_ms = now_ms

    def begin(self, pod: Json, holding: Holding) -> None:
        """A pod was admitted. A container that starts again changes nothing."""
        if not self._files.has_history(holding.uid):
            self._files.write_history(holding.uid, render_records((begun(pod, holding, self._now_ms()),)))

    def restart(self, ref: ContainerRef, ledger: LedgerView) -> None:
        """A container starts again: what its ledger says is kept before a fresh one takes its place."""
        for record in self._one(ref.uid):
            self._write(record, restarted(record, ref.container, ledger))

    def see(
        self, records: Mapping[str, PodRecord], ledgers: Mapping[ContainerRef, LedgerView], pods: Mapping[str, Json]
    ) -> dict[str, PodRecord]:
        """The records with what servers of models hold at most, by the ledgers and the pods of the node.

        Those that change are read again, because a container may have started since.
        """
        found = dict(records)
        for uid, before in records.items():
            for record in self._one(uid) if before.servers and not before.end_ms else ():
                own = {ref.container: view for ref, view in ledgers.items() if ref.uid == uid}
                found[uid] = seen(record, own, pods.get(uid))
                self._write(record, found[uid])
        return found

    def end(self, records: Mapping[str, PodRecord], live: Collection[str]) -> None:
        """Those of these pods that are not live have ended by now."""
        ends, old = after(records, live, self._now_ms())
        for record in ends:
            self._files.write_history(record.uid, render_records((record,)))
        self._files.drop_history(old)

    def page(self, query: str) -> str:
        """`/records`, with `since=MILLISECONDS`."""
        text = next((part.partition("=")[2] for part in query.split("&") if part.startswith("since=")), "")
        moment = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
        return render_records(since(self.read().values(), moment))

    def read(self) -> dict[str, PodRecord]:
        """Every record by uid. A damaged one is logged and left out."""
        found: dict[str, PodRecord] = {}
        for uid, text in self._files.history().items():
            found |= {record.uid: record for record in self._parsed(uid, text)}
        return found

    # ---- inside
    def _one(self, uid: str) -> tuple[PodRecord, ...]:
        text = self._files.one_history(uid)
        return self._parsed(uid, text) if text else ()

    def _write(self, before: PodRecord, record: PodRecord) -> None:
        if record != before:
            self._files.write_history(record.uid, render_records((record,)))

    def _parsed(self, uid: str, text: str) -> tuple[PodRecord, ...]:
        try:
            return parse_records(text)
        except WireError as error:
            _LOG.warning("the record of pod %s is damaged: %s", uid, error)
            return ()
