"""The node's history on disk: written when a pod is admitted, ended when the clean-up finds it gone."""

import logging
import time
from collections.abc import Callable, Collection, Mapping

from deviceplugin.core.history import after, begun, since
from deviceplugin.state.files import Files
from kerf.values.grant import Holding
from kerf.wire.errors import WireError
from kerf.wire.json import Json
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
            try:
                found |= {record.uid: record for record in parse_records(text)}
            except WireError as error:
                _LOG.warning("the record of pod %s is damaged: %s", uid, error)
        return found
