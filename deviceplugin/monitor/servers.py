"""Inference servers that ask to be watched: their health pages, their tokens, and their logs.

A pod opts in with `kerf.dev/watch-server: "8000"`, the port of a server that serves `/health` and `/metrics`. Only the
pod's own address is asked. Logs are read where the kubelet keeps them, if the plugin is given that directory.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from deviceplugin.gate.pods import meta
from kerf.faults.servers import Progress, error_in, parse_sample
from kerf.kube.client import Json
from kerf.obs.loop import Loop, run_every
from kerf.values.fault import Fault, Signal
from kerf.values.grant import Holding
from kerf.wire.errors import WireError
from kerf.wire.json import text_at
from kerf.wire.objects import is_finished

_LOG = logging.getLogger("kerf.deviceplugin.servers")
ANNOTATION = "kerf.dev/watch-server"
LOOK_S = 10.0
CALL_S = 2.0
LARGEST_PAGE = 4 << 20
LARGEST_READ = 1 << 20
"""Bytes of one log that are read in one look; what a server writes beyond them is passed over."""
Take = Callable[[Fault], None]
Report = Callable[[Json, str], None]
Clock = Callable[[], float]
Pods = Callable[[], Iterable[Json]]
"""The pods of the node, as last listed."""
Parse = Callable[[Json], Holding | None]


@dataclass(frozen=True, slots=True)
class Watched:
    """A pod that asks to be watched, with the cards that it holds."""

    pod: Json
    port: int
    cards: tuple[str, ...]


@dataclass(slots=True)
class _Course:
    """What is known of one server."""

    progress: Progress = field(default_factory=Progress)
    said: str = ""
    offsets: dict[str, int] = field(default_factory=dict)


class ServerWatch:
    """Looks every ten seconds. `logs` is the kubelet's directory of pod logs, empty for none."""

    def __init__(
        self, pods: Pods, parse: Parse, take: Take, report: Report, logs: str, clock: Clock = time.monotonic
    ) -> None:
        self._pods = pods
        self._parse = parse
        self._take = take
        self._report = report
        self._logs = Path(logs) if logs else None
        self._clock = clock
        self._courses: dict[str, _Course] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`; never raises."""
        run_every(Loop("deviceplugin.servers", LOOK_S, expected=(OSError,)), self.run_once, stop)

    def run_once(self) -> None:
        """Look once at every server that asks for it."""
        watched = list(self._watched())
        self._courses = {meta(one.pod, "uid"): self._course(one) for one in watched}
        for one in watched:
            course = self._courses[meta(one.pod, "uid")]
            words = self._stall(one, course)
            words = words or next(iter(self._errors(one.pod, course)), "")
            if words and words != course.said:
                self._report(one.pod, f"the server reports {words}")
            course.said = words
            for card in one.cards if words else ():  # again in every look: a card whose server stalls does not recover
                self._take(Fault(time.time(), card, 0, Signal.SERVER, f"a server on the card reports {words}"))

    # ---- inside
    def _course(self, one: Watched) -> _Course:
        return self._courses.get(meta(one.pod, "uid")) or _Course()

    def _watched(self) -> Iterator[Watched]:
        for pod in self._pods():
            port = text_at(pod, "metadata", "annotations", ANNOTATION)
            if not (port.isascii() and port.isdigit()) or is_finished(pod):
                continue
            try:
                holding = self._parse(pod)
            except WireError:
                continue
            cards = {piece.card for part in (holding.grant.containers if holding else ()) for piece in part.slices}
            if cards and 0 < int(port) < 65_536:
                yield Watched(pod, int(port), tuple(sorted(cards)))

    def _stall(self, one: Watched, course: _Course) -> str:
        address = text_at(one.pod, "status", "podIP")
        if not address:
            return ""
        health, _ = _page(address, one.port, "/health")
        found, text = _page(address, one.port, "/metrics")
        sample = parse_sample(self._clock(), health == 200, text) if found == 200 else None
        if sample is None:
            return ""
        course.progress = course.progress.after(sample)
        return course.progress.stalled(sample)

    def _errors(self, pod: Json, course: _Course) -> Iterator[str]:
        """Errors in what its containers wrote since the last look. The first look only notes where the logs end."""
        if self._logs is None:
            return
        folder = self._logs / f"{meta(pod, 'namespace')}_{meta(pod, 'name')}_{meta(pod, 'uid')}"
        for path in sorted(folder.glob("*/*.log")):
            size = path.stat().st_size
            start = course.offsets.get(str(path))
            course.offsets[str(path)] = size
            if start is None or start >= size:
                continue
            with path.open("rb") as file:
                file.seek(start)
                text = file.read(min(size - start, LARGEST_READ)).decode(errors="replace")
            yield from (found for line in text.splitlines() if (found := error_in(line)))


def _page(address: str, port: int, path: str) -> tuple[int, str]:
    """Status and text of a page; 0 where none answers. No redirect is followed, so nothing else is ever asked."""
    connection = HTTPConnection(address, port, timeout=CALL_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(LARGEST_PAGE).decode(errors="replace")
    except (OSError, HTTPException, ValueError):
        return 0, ""
    finally:
        connection.close()
