"""The AdmissionCheck `kerf-gpu-fit`: Kueue admits nothing that no card can hold.

For every workload that has its quota, the placement engine looks for places on the live cards and holds them for a
while. Ready: the places are held and the pods get their workload's uid (annotation `kerf.dev/admission`). Pending: not
now, with the scheduler's explanation; Ready follows as soon as there is room. Retry: it has waited so long that Kueue
should give its quota to others. Rejected: no card here ever could.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.mirror import Mirror
from kerf.obs.loop import Loop, run_every
from kerf.values.policy import QuotaEngine
from kerf.wire import kueue
from kerf.wire.classes import PRESENT, class_label
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.resources import ADMISSION
from scheduler.core.eligible import is_eligible
from scheduler.core.place import hardness
from scheduler.metrics import QuotaMetrics
from scheduler.state.answers import Member, NoPlace
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.fit")
LOOP = Loop("fit", every_s=0.5, rest_s=0.1, first_pause_s=0.5, longest_pause_s=2.0, expected=(KubeError,))
"""It rests, because every answer changes the workloads and each round goes through all of them."""
HOLD_S = 60.0
"""How long places are held for pods that do not come; by then they compete like any other pod."""
LONGEST_PATIENCE_S = 8.0
"""A workload keeps its quota for 1, 2, 4, 8, 8 … seconds while no card has room for it."""
SETTLE_S = 5.0
"""An answer that the watch does not show by then is given again."""
MOST_PODS = 2_000
WRITERS = 8
"""Answers under way at once: the API server takes longer to store one than the engine to find it."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was said of a workload that got its quota at `reserved`, and when (monotonic seconds)."""

    state: str
    message: str
    updates: Sequence[Json] = ()
    """What Kueue is to write into the pods of each podset."""
    reserved: str = ""
    at: float = 0.0


class FitCheck:
    """Answers the check for every workload, most important and oldest first."""

    def __init__(
        self, store: Store, kube: Kube, metrics: QuotaMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._desk = store.desk
        self._kube = kube
        self._metrics = metrics
        self._clock = clock
        self._workloads = Mirror(kube, {f"{kueue.ROOT}/workloads": "Workload"})
        self._checks = Mirror(kube, {kueue.path_of("AdmissionCheck"): "AdmissionCheck"})
        self._answers: dict[str, _Answer] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        """Since when a workload waits, and the reason that was last written."""
        self._holding: set[str] = set()
        self._following = False
        self._writers = ThreadPoolExecutor(WRITERS, "fit-check")

    def run(self, stop: threading.Event) -> None:
        """Answer until stopped."""
        run_every(LOOP, self._round, stop, self._workloads.changed)
        self._workloads.stop()
        self._checks.stop()
        self._writers.shutdown(cancel_futures=True)

    def run_once(self) -> None:
        """One round. Raises KubeError."""
        self._activate()
        workloads = self._workloads.items()
        self._give_back(workloads)
        asking = [workload for workload in workloads if kueue.needs_answer(workload)]
        asking.sort(key=lambda w: (-kueue.priority_of(w), kueue.admitted_at(w), w["metadata"]["name"]))
        writes: list[Future[None]] = []
        for workload in asking:
            uid = str(workload["metadata"]["uid"])
            answer = self._answer(uid, workload) if self._asks_now(uid, workload) else None
            if answer is not None:
                writes.append(self._writers.submit(self._write, uid, workload, answer))
        wait(writes)
        for write in writes:
            write.result()

    # ---- inside
    def _round(self) -> None:
        if self._desk.policy.quota.engine is not QuotaEngine.KUEUE:
            return
        if not self._following:
            self._following = True
            self._workloads.start()
            self._checks.start()
        self.run_once()

    def _activate(self) -> None:
        """Kueue uses a check only once its controller says that it is there."""
        for check in self._checks.items():
            ours = at(check, "spec").get("controllerName") == kueue.FIT_CONTROLLER
            if ours and not kueue.is_true(check, "Active"):
                active = {
                    "type": "Active",
                    "status": "True",
                    "reason": "Serving",
                    "message": "Kerf's scheduler looks for cards",
                    "lastTransitionTime": _now(),
                    "observedGeneration": int(check["metadata"].get("generation") or 0),
                }
                name = str(check["metadata"]["name"])
                path = f"{kueue.path_of('AdmissionCheck', name)}/status"
                self._kube.patch(path, {"status": {"conditions": [active]}})

    def _give_back(self, workloads: list[dict[str, Any]]) -> None:
        """Places of workloads that are gone, finished or taken back."""
        alive = {str(w["metadata"]["uid"]) for w in workloads if kueue.is_true(w, "QuotaReserved")}
        alive -= {str(w["metadata"]["uid"]) for w in workloads if kueue.is_over(w)}
        for uid in self._holding - alive:
            self._desk.drop_places(uid)
        self._holding &= alive
        self._answers = {uid: answer for uid, answer in self._answers.items() if uid in alive}
        self._refused = {uid: entry for uid, entry in self._refused.items() if uid in alive}

    def _asks_now(self, uid: str, workload: Json) -> bool:
        """Not answered yet, asking again with another quota, or answered and Kueue still does not show it."""
        known = self._answers.get(uid)
        if known is None or known.reserved != kueue.admitted_at(workload):
            return True
        return known.at + SETTLE_S <= self._clock()

    def _answer(self, uid: str, workload: Json) -> _Answer | None:
        """What to write, None when all is said."""
        known = self._answers.get(uid)
        if known is not None and known.state == "Ready" and known.reserved == kueue.admitted_at(workload):
            return known  # its pods may have taken their places: new reservations would have no owner
        members, annotated, problem = self._members(workload)
        if problem is None and members:
            problem = self._desk.hold_places(uid, members, self._clock() + HOLD_S)
        if problem is None:
            self._holding.add(uid)
            updates = [{"name": name, "annotations": {ADMISSION: uid}} for name in annotated]
            return _Answer("Ready", _held(len(members)), updates)
        if problem.final:
            return _Answer("Rejected", problem.sentence)
        return self._not_now(uid, workload, problem.sentence)

    def _not_now(self, uid: str, workload: Json, sentence: str) -> _Answer | None:
        """Say why it waits; once it has waited long enough, let others have its quota.

        Retry carries no `requeueAfterSeconds`: Kueue (0.19) would keep the quota for that long.
        """
        since, before = self._refused.get(uid, (self._clock(), ""))
        patience = min(2.0 ** min(kueue.retries(workload), 10), LONGEST_PATIENCE_S)
        if self._clock() - since >= patience:
            self._refused.pop(uid, None)
            return _Answer("Retry", sentence)
        self._refused[uid] = (since, sentence)
        return _Answer("Pending", sentence) if before != sentence else None

    def _members(self, workload: Json) -> tuple[list[Member], list[str], NoPlace | None]:
        """The workload's pods that ask for cards, the names of their podsets, or why they cannot be read."""
        names = self._desk.names
        members: list[Member] = []
        annotated = []
        for name, count, template, classes in kueue.podsets_of(workload, names):
            pod = _pod(workload, name, template, classes)
            try:
                ask, stages = self._desk.read(pod)
            except WireError as error:
                return [], [], NoPlace(str(error), final=True)
            if not ask.containers:
                continue
            if len(members) + count > MOST_PODS:
                return [], [], NoPlace(f"asks for more than {MOST_PODS:,} pods at once: split the workload", final=True)
            members += [Member(ask, stages, partial(is_eligible, pod["spec"]))] * count
            annotated.append(name)
        members.sort(key=lambda member: max(map(hardness, member.ask.containers)), reverse=True)
        return members, annotated, None

    def _write(self, uid: str, workload: Json, answer: _Answer) -> None:
        meta = workload["metadata"]
        path = f"{kueue.ROOT}/namespaces/{meta['namespace']}/workloads/{meta['name']}/status"
        more = {"podSetUpdates": answer.updates} if answer.state == "Ready" else {}
        body = kueue.render_fit_answer(workload, answer.state, answer.message, _now(), **more)
        try:
            self._kube.patch(path, body, "apply", {"fieldManager": "kerf-gpu-fit", "force": "true"})
        except NotFound:
            return
        if answer.state != "Pending":
            self._answers[uid] = replace(answer, reserved=kueue.admitted_at(workload), at=self._clock())
        self._metrics.fit_answers.labels(answer.state).inc()
        if answer.state in {"Retry", "Rejected"}:
            _LOG.info("workload %s/%s: %s: %s", meta["namespace"], meta["name"], answer.state, answer.message)


def _pod(workload: Json, podset: str, template: Json, classes: tuple[str, ...]) -> dict[str, Any]:
    """A pod of the podset as the scheduler would see it, on nodes of the classes that Kueue has assigned."""
    meta = {**at(template, "metadata"), "namespace": workload["metadata"]["namespace"]}
    meta["name"] = f"{workload['metadata']['name']}-{podset}"
    spec = dict(at(template, "spec"))
    selector = {class_label(slug): PRESENT for slug in classes}
    spec["nodeSelector"] = {**at(spec, "nodeSelector"), **selector}
    return {"metadata": meta, "spec": spec}


def _held(places: int) -> str:
    if not places:
        return "asks for no cards"
    return "1 place is held" if places == 1 else f"{places:,} places are held"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
