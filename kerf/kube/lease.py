"""Leader election by one Lease: the state machine alone. Times are arguments; nothing here waits or makes calls.

Three rules keep two replicas from leading at the same time, whatever is delayed or lost:

- a holder counts from the moment *before* it asked for the renewal, and counts on less than it asked for (`hold_s`);
- every other replica counts from the moment *after* it first saw a renewal, and waits for all of it (`duration_s`);
- every write carries the resourceVersion that was read, so that of two writers one is refused.

A replica compares only differences of its own clock, never another replica's timestamps: clocks may be set to anything,
they must only run at about the same pace. `hold_s / duration_s` is the drift that is tolerated (10 %).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kerf.wire.json import at

LEASES = "/apis/coordination.k8s.io/v1"
ADDRESS = "kerf.dev/leader-address"
"""Annotation of the Lease: HOST:PORT at which the leader takes binds."""
NOBODY = ""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. A fail-over takes at most `duration_s` and two times `every_s`."""

    duration_s: float = 3.0
    """Others wait for this long after the last renewal that they saw."""
    hold_s: float = 2.7
    """The holder counts on this much of it."""
    renew_s: float = 1.0
    every_s: float = 0.25
    """How often a follower looks, and a holder that could not renew tries again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the API server stores: the holder's identity, its address, and how often the holder has changed.

    `version` is the resourceVersion, empty while the Lease does not exist.
    """

    holder: str = NOBODY
    address: str = ""
    transitions: int = 0
    version: str = ""


class Election:
    """One replica's view of the Lease. `identity` is unique to the process: a restarted one gets another."""

    def __init__(self, identity: str, address: str, times: Times) -> None:
        self.identity = identity
        self._address = address
        self._times = times
        self._seen: Claim | None = None
        self._seen_at = -math.inf
        self._until = -math.inf
        self._renewed_at = -math.inf
        self._looked_at = -math.inf

    def observe(self, claim: Claim, now: float) -> None:
        """A read was answered; `now` is after the answer came. An absent Lease is a `Claim()`."""
        # Absence has no version: after a gap, another replica may have held the Lease meanwhile.
        gap = not claim.version and now > self._looked_at + self._times.renew_s
        self._looked_at = now
        if self._seen is None or gap or claim.version != self._seen.version:
            self._seen, self._seen_at = claim, now
        if claim.holder not in (self.identity, NOBODY):
            self._until = -math.inf

    def wish(self, now: float) -> Claim | None:
        """The claim to write now, with the version that must still stand; None while somebody else may lead."""
        seen = self._seen
        if seen is None:
            return None
        if seen.holder == self.identity:
            due = now >= self._renewed_at + self._times.renew_s
            return Claim(self.identity, self._address, seen.transitions, seen.version) if due else None
        # A Lease that is absent may have been deleted while a replica led: wait as for any other.
        released = seen.holder == NOBODY and seen.version != ""
        if released or self.leads(now) or now >= self._seen_at + self._times.duration_s:
            return Claim(self.identity, self._address, seen.transitions + 1, seen.version)
        return None

    def written(self, claim: Claim, sent_at: float, now: float) -> None:
        """A write was answered with success; `sent_at` is before it was sent."""
        self.observe(claim, now)
        if claim.holder == self.identity:
            self._until = max(self._until, sent_at + self._times.hold_s)
            self._renewed_at = sent_at

    def release(self) -> Claim | None:
        """The claim that releases the Lease; None unless it is held. The replica stops leading at once."""
        self._until = -math.inf
        seen = self._seen
        if seen is None or seen.holder != self.identity:
            return None
        return Claim(NOBODY, "", seen.transitions, seen.version)

    def leads(self, now: float, for_s: float = 0.0) -> bool:
        """Whether no other replica can lead within the next `for_s` seconds."""
        return now + for_s < self._until

    def leader(self, now: float) -> Claim | None:
        """The leader as far as this replica knows; None if there is none, or its claim has expired."""
        seen = self._seen
        if seen is None or seen.holder == NOBODY or now >= self._seen_at + self._times.duration_s:
            return None
        return seen


def parse_lease(document: Mapping[str, Any]) -> Claim:
    """A Lease object. Timestamps are for people and are not read."""
    meta, spec = at(document, "metadata"), at(document, "spec")
    transitions = spec.get("leaseTransitions")
    return Claim(
        holder=str(spec.get("holderIdentity") or NOBODY),
        address=str(at(meta, "annotations").get(ADDRESS) or ""),
        transitions=transitions if isinstance(transitions, int) else 0,
        version=str(meta.get("resourceVersion") or ""),
    )


def render_lease(namespace: str, name: str, claim: Claim, times: Times, wall: float) -> dict[str, Any]:
    """The Lease object of a claim. `wall` is Unix time, written for people."""
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "annotations": {ADDRESS: claim.address}}
    if claim.version:
        meta["resourceVersion"] = claim.version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": math.ceil(times.duration_s),
            "leaseTransitions": claim.transitions,
            "renewTime": stamp,
        },
    }


def lease_path(namespace: str, name: str = "") -> str:
    """The Leases of a namespace, or one of them."""
    return f"{LEASES}/namespaces/{namespace}/leases" + (f"/{name}" if name else "")
