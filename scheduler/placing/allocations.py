"""Allocations of claims of which the watch does not show what came of them: those of this leader, and of the last one.

An allocation that was let through takes effect on the version of the claim on which it was made, or never. For its own
ones this leader asks the API server. Those that another leader let through it does not know, so before its term opens
it changes each claim that is not allocated yet: what was let through before can then take effect no more.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from kerf.kube.client import Json, Kube
from kerf.kube.errors import Conflict, KubeError, NotFound
from kerf.kube.watch import Follower
from kerf.obs.loop import Loop, run_every
from kerf.values.claim import Claim
from kerf.wire.claims import CLAIMS, claim_path, parse_claim
from kerf.wire.errors import WireError
from kerf.wire.json import text_at, version_of
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.claims")
SETTLED = "kerf.dev/settled"
"""Annotation of a claim: written so that what an earlier leader let through takes effect no more."""
ASK_AFTER_S = 5.0
OVER_S = 70.0
"""API servers end a request after a minute (--request-timeout). A claim that has not changed for longer than that
after an allocation was let through will not be changed by it."""
LOOP = Loop("claims", every_s=2.0)


class AllocationExpiry:
    """Asks the API server about old attempts; only its answer ends one."""

    def __init__(self, store: Store, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._allocations = store.allocations
        self._kube = kube
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Run every two seconds until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """One round."""
        now = self._clock()
        for claim, attempt in self._allocations.attempts_before(now - ASK_AFTER_S):
            found = self._read(claim)
            if found is None:
                continue
            known, version = found
            self._allocations.settle(known, version)
            if version <= attempt.based_on and now - attempt.since > OVER_S:
                _LOG.info("claim %s was not allocated after all", claim.key)
                self._allocations.give_up(claim.uid, attempt.based_on)

    def _read(self, claim: Claim) -> tuple[Claim, int] | None:
        """The claim as the API server has it; None where it is gone, or the answer is not known."""
        try:
            item = self._kube.get(claim_path(claim.namespace, claim.name))
            known = parse_claim(item)
        except NotFound:
            self._allocations.forget(claim.uid)
            return None
        except (KubeError, WireError) as error:
            _LOG.warning("whether claim %s is allocated is not known yet: %s", claim.key, error)
            return None
        if known.uid != claim.uid:
            self._allocations.forget(claim.uid)
            return None
        return known, version_of(item)


class Settlement:
    """Sees what earlier leaders let through, and ends what of it has not taken effect. One for a process."""

    def __init__(self, store: Store, kube: Kube, claims: Follower, elected: Callable[[], int]) -> None:
        self._allocations = store.allocations
        self._kube = kube
        self._claims = claims
        self._elected = elected
        self._term = 0
        self._done: set[str] = set()
        self.over = False
        """Whether it was done once."""

    def run_once(self, _stop: threading.Event) -> bool:
        """One attempt; whether it is done."""
        term = self._elected()
        if term != self._term:
            self._term, self._done = term, set()
        try:
            done = self._claims.synced.is_set() and (not self._claims.reached("0") or self._settled())
        except KubeError as error:
            _LOG.warning("what the last leader let through of claims is not settled yet: %s", error)
            return False
        self.over = self.over or done
        return done

    def _settled(self) -> bool:
        """A list without a resourceVersion is as new as etcd; what was changed is seen by the next one."""
        items, version = self._kube.list(CLAIMS)
        waiting = list(self._undecided(items))
        for namespace, name, uid in waiting:
            self._end(namespace, name, uid)
            self._done.add(uid)
        if waiting:
            return False
        self._claims.merge(items, version)
        return True

    def _undecided(self, items: list[Json]) -> Iterator[tuple[str, str, str]]:
        for item in items:
            allocated = "allocation" in (item.get("status") or {})
            namespace, name, uid = (text_at(item, "metadata", key) for key in ("namespace", "name", "uid"))
            if not allocated and uid not in self._done and self._allocations.bounds(namespace):
                yield namespace, name, uid

    def _end(self, namespace: str, name: str, uid: str) -> None:
        body = {"metadata": {"uid": uid, "annotations": {SETTLED: uuid.uuid4().hex}}}
        try:
            self._kube.patch(claim_path(namespace, name), body)
        except (NotFound, Conflict):
            return  # it is gone, or another of its name is there
