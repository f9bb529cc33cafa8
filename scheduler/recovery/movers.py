"""Moving the tenants of a failed card: through the Eviction API, groups as one, with a place reserved first."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.kube.events import Events
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.values.recovery import AfterDeadline, RecoverySettings
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.objects import is_finished
from scheduler.core.eligible import is_eligible
from scheduler.metrics import RecoveryMetrics
from scheduler.recovery.decide import FailedCard
from scheduler.recovery.groups import group_of
from scheduler.recovery.hints import controller_path, hints_of
from scheduler.state.answers import Member
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.recovery")
NEED_RECOVERY = "kcover.io/need-recovery"
RETRY_S = 5.0
"""Between two tries to evict a pod that its PodDisruptionBudget holds."""
AGAIN_S = 60.0
"""After an accepted eviction, the pod is asked to leave again if it is still there."""
HOLD_S = 120.0
"""How long a place is held for the successor: a pod's termination grace, and the start of another."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod that holds a slice of a failed card."""

    key: str
    uid: str
    failed: FailedCard


class Movers:
    """Remembers what it asked for, so that nothing is asked twice; a new leader asks once more, which harms nothing."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        events: Events,
        metrics: RecoveryMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.may_leave: Callable[[str], bool] = lambda _uid: True
        """Whether the eviction of a pod, by uid, need not wait."""
        self._desk = store.desk
        self._kube = kube
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._not_before: dict[str, float] = {}
        self.draining: set[str] = set()
        """Tenants that wait until gateways send nothing to them, or to a pod of their group."""
        self.held: dict[str, str] = {}
        """By uid of a pod that could not be evicted, the uid of the tenant because of which it has to leave."""

    def keep_only(self, uids: frozenset[str]) -> None:
        """Forget the pods that are gone, or need not move any longer."""
        self._not_before = {uid: at for uid, at in self._not_before.items() if uid in uids or at > self._clock()}
        self.held = {uid: tenant for uid, tenant in self.held.items() if tenant in uids}
        self.draining &= uids

    def move(self, tenant: Tenant, settings: RecoverySettings, now: float) -> None:
        """One try to move a tenant with its group. Raises KubeError where the API server cannot be asked."""
        if self._clock() < self._not_before.get(tenant.uid, 0.0):
            return
        pod = self._pod(tenant)
        if pod is None:
            self._later(tenant.uid, RETRY_S)
            return
        members = self._members(pod)
        if settings.dry_run:
            self._say_dry(tenant, members)
            return
        waiting = [member for member in members if not self.may_leave(_uid(member))]
        if waiting:
            self.draining.add(tenant.uid)
            return
        self.draining.discard(tenant.uid)
        late = now - tenant.failed.card.health.since >= settings.deadline_s
        by_force = late and settings.after_deadline is AfterDeadline.DELETE
        *others, itself = members
        for member in others:
            if self._clock() >= self._not_before.get(_uid(member), 0.0):
                self._evict(member, tenant, by_force)
        # The tenant goes last: as long as it is there, any leader sees that its group has to leave.
        if late or not any(_uid(member) in self.held for member in others):
            self._evict(itself, tenant, by_force)
        else:
            self._later(tenant.uid, RETRY_S)

    # ---- inside
    def _pod(self, tenant: Tenant) -> Json | None:
        """The pod, unless it is gone, leaves already, or is another one of that name."""
        namespace, _, name = tenant.key.partition("/")
        try:
            pod = self._kube.get(paths.pod(namespace, name))
        except NotFound:
            return None
        return pod if _uid(pod) == tenant.uid and not _leaves(pod) else None

    def _members(self, pod: Json) -> list[Json]:
        """The pods that move together; the failed card's own tenant last."""
        group = group_of(pod)
        if group is None:
            return [pod]
        namespace = at(pod, "metadata").get("namespace") or "default"
        query = {"labelSelector": group.selector} if group.selector else None
        found, _ = self._kube.list(paths.pods(namespace), query)
        others = [one for one in found if group.holds(one) and _uid(one) != _uid(pod)]
        return [*(one for one in others if not _leaves(one) and not is_finished(one)), pod]

    def _evict(self, member: Json, tenant: Tenant, by_force: bool) -> None:
        key, uid = _key(member), _uid(member)
        reserved = self._reserve(member)
        answer = evict(self._kube, key, uid)
        if isinstance(answer, NotEvicted) and by_force:
            answer = self._delete(member, answer)
        match answer:
            case NotEvicted(reason):
                if reserved:
                    self._desk.drop_successor(uid, reserved)
                self.held[uid] = tenant.uid
                self._metrics.moved.labels("held").inc()
                self._later(uid, RETRY_S)
                _LOG.warning("%s cannot be evicted from a failed card now: %s", key, reason)
            case Evicted() | AlreadyGone():
                self.held.pop(uid, None)
                self._metrics.moved.labels("evicted").inc()
                self._later(uid, AGAIN_S)
                self._say(member, tenant)
                self._keep_hints(member)

    def _delete(self, member: Json, refused: NotEvicted) -> Evicted | AlreadyGone | NotEvicted:
        """After the deadline, whatever the pod's PodDisruptionBudget says."""
        namespace, _, name = _key(member).partition("/")
        try:
            self._kube.delete(paths.pod(namespace, name), {"preconditions": {"uid": _uid(member)}})
        except NotFound:
            return AlreadyGone()
        except KubeError as error:
            return NotEvicted(f"{refused.reason}; and it cannot be deleted: {error}")
        _LOG.warning(
            "%s was deleted: the deadline is over and its eviction was refused (%s)", _key(member), refused.reason
        )
        return Evicted()

    def _reserve(self, member: Json) -> str:
        """Hold a place for the pod's successor where the fleet has one. The successor's controller, empty for none."""
        try:
            ask, stages = self._desk.read(member)
        except WireError:
            return ""
        if not ask.owner or not ask.containers or ask.gang or ask.admission:
            return ""  # nothing follows it, or the planner or Kueue's fit check finds its place
        place = Member(ask, stages, partial(is_eligible, at(member, "spec")))
        missing = self._desk.hold_for_successor(ask.uid, place, self._clock() + HOLD_S)
        if missing is not None:
            _LOG.info("no place is free yet for the successor of %s: %s", ask.key, missing.sentence)
            return ""
        return ask.owner

    def _keep_hints(self, member: Json) -> None:
        hints, path = hints_of(member), controller_path(member)
        if not hints or not path:
            return
        try:
            self._kube.patch(path, {"metadata": {"annotations": hints}})
        except KubeError as error:
            _LOG.warning("the checkpoint of %s is not noted on its controller: %s", _key(member), error)

    def _say(self, member: Json, tenant: Tenant) -> None:
        failed = tenant.failed
        where = f"card {failed.card.index} ({failed.card.id}) of node {failed.node}: {failed.card.health.cause}"
        words = (
            f"evicted because of {where}"
            if _uid(member) == tenant.uid
            else f"evicted with its group because of {where}"
        )
        hint = hints_of(member).get("kerf.dev/checkpoint")
        words += f"; its last checkpoint is {hint}" if hint else ""
        self._events.emit(_about(member), "CardFailed", words, annotations={NEED_RECOVERY: "true"})
        _LOG.warning("%s %s", _key(member), words)

    def _say_dry(self, tenant: Tenant, members: Sequence[Json]) -> None:
        names = ", ".join(_key(member) for member in members)
        words = f"dry run: would evict {names} because of {tenant.failed.card.health.cause} of {tenant.failed.card.id}"
        self._events.emit(_about(members[-1]), "CardFailed", words)
        self._metrics.moved.labels("dry-run").inc()
        self._later(tenant.uid, AGAIN_S)
        _LOG.warning("%s", words)

    def _later(self, uid: str, seconds: float) -> None:
        self._not_before[uid] = self._clock() + seconds


def _uid(pod: Json) -> str:
    return str(at(pod, "metadata").get("uid") or "")


def _key(pod: Json) -> str:
    meta = at(pod, "metadata")
    return f"{meta.get('namespace') or 'default'}/{meta.get('name', '')}"


def _leaves(pod: Json) -> bool:
    return bool(at(pod, "metadata").get("deletionTimestamp"))


def _about(pod: Json) -> dict[str, str]:
    namespace, _, name = _key(pod).partition("/")
    return {"kind": "Pod", "namespace": namespace, "name": name, "uid": _uid(pod)}
