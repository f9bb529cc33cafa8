"""Node locks of the vendors' device plugins: the annotation by which a plugin knows which pod its Allocate is about.

Kerf's own plugin needs none. Others serve the pod that the node's lock names, so one pod a node at a time is between
its Binding and its containers. The scheduler takes the lock before the Binding; the plugin releases it. A
later bind takes a lock that was forgotten: one past its time, or of a pod that is gone or was served.
"""

import calendar
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Conflict, KubeError, NotFound
from kerf.wire.extender import BindQuery
from kerf.wire.hami import LOCK, parse_lock, render_lock
from kerf.wire.json import at, text_at
from kerf.wire.objects import is_finished

EXPIRES_S = {LOCK: 300.0}
SHORTER_S = 120.0
"""After so long HAMi and the plugins consider a lock forgotten: five minutes for HAMi's own, two for Cambricon's."""
TAKEN, BUSY, FAILED = "taken", "busy", "failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A lock that cannot be had now: the word for the metric, and why."""

    outcome: str
    sentence: str


class NodeLocks:
    """Takes and releases locks. Safe from several threads: the API server decides who was first."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.time) -> None:
        self._kube = kube
        self._clock = clock

    def take(self, key: str, query: BindQuery) -> Refusal | str:
        """Lock the pod's node for the pod: the lock, or why it cannot be had."""
        try:
            node = self._kube.get(paths.node(query.node))
            held = str(at(node, "metadata", "annotations").get(key) or "")
            if held and not self._mine(held, query) and not self._forgotten(key, held):
                owner = "/".join(filter(None, parse_lock(held)[1:])) or "another pod"
                sentence = f"node {query.node} is locked for {owner} until its device plugin has served it: try again"
                return Refusal(BUSY, sentence)
            text = render_lock(key, _stamp(self._clock()), query.namespace, query.name)
            self._write(key, node, text)
        except Conflict:
            return Refusal(BUSY, f"node {query.node} changed while it was being locked: try again")
        except KubeError as error:
            return Refusal(FAILED, f"node {query.node} cannot be locked: {error}")
        return text

    def release(self, key: str, node_name: str, lock: str) -> None:
        """Unlock the node if it still has this lock. A lock that cannot be released is forgotten later."""
        try:
            node = self._kube.get(paths.node(node_name))
            if at(node, "metadata", "annotations").get(key) == lock:
                self._write(key, node, None)
        except KubeError:
            return

    def _write(self, key: str, node: dict[str, Any], text: str | None) -> None:
        meta = at(node, "metadata")
        change = {"annotations": {key: text}, "resourceVersion": meta.get("resourceVersion")}
        self._kube.patch(paths.node(str(meta.get("name"))), {"metadata": change})

    def _mine(self, held: str, query: BindQuery) -> bool:
        return parse_lock(held)[1:] == (query.namespace, query.name)

    def _forgotten(self, key: str, held: str) -> bool:
        """Whether the lock is too old, or its pod needs it no longer."""
        since, namespace, name = parse_lock(held)
        if self._clock() - _seconds(since) > EXPIRES_S.get(key, SHORTER_S):
            return True
        if not name:
            return False
        try:
            pod = self._kube.get(paths.pod(namespace, name))
        except NotFound:
            return True
        return is_finished(pod) or text_at(pod, "status", "phase") == "Running"


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def _seconds(stamp: str) -> float:
    """Unix time of an RFC 3339 time; 0, long ago, for what is none."""
    text, offset = (stamp[:-1], 0) if stamp.endswith("Z") else (stamp[:19], _offset(stamp[19:]))
    try:
        return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - offset
    except ValueError:
        return 0.0


def _offset(text: str) -> int:
    sign, hours, _, minutes = text[:1], text[1:3], text[3:4], text[4:6]
    if sign not in {"+", "-"} or not (hours.isdigit() and minutes.isdigit()):
        return 0
    seconds = int(hours) * 3600 + int(minutes) * 60
    return seconds if sign == "+" else -seconds
