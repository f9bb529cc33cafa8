"""The way from a follower to the leader.

The leader alone knows which capacity it has promised (assumptions, reservations, plans) and which pods were refused,
so a follower passes every verb on to it. Where that fails, filter, prioritize and preempt are answered from the
follower's own cache, which misses those promises and nothing else; bind is refused, and kube-scheduler tries again.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from kerf.http.poster import Poster, PostError
from kerf.kube.leadership import Tenure
from kerf.kube.lease import Claim
from kerf.wire.extender import render_bind
from scheduler.metrics import SchedulerMetrics

_LOG = logging.getLogger("kerf.peers")
HEADER = "kerf-forwarded"
"""Marks a request that was passed on once, and is not passed on again."""
READ_S = 1.0
"""For verbs that a follower can answer itself."""
BIND_S = 5.0
"""For bind: kube-scheduler waits for ten seconds."""
MOST_CONNECTIONS = 256
_HEADERS = {HEADER: "1", "Content-Type": "application/json"}
PAUSE_S = 1.0
"""After a failure the follower answers by itself for this long."""


class Leaders(Tenure, Protocol):
    """A tenure that knows who leads elsewhere."""

    def leader(self) -> Claim | None:
        """The replica that leads, None if there is none."""


class Peers:
    """Passes requests on. Lives on the event loop."""

    def __init__(
        self,
        leaders: Leaders,
        own_address: str,
        metrics: SchedulerMetrics,
        tls: Callable[[], ssl.SSLContext] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leaders = leaders
        self._own = plain_address(own_address)
        self._metrics = metrics
        self._tls = tls
        self._clock = clock
        self._posters: dict[tuple[str, ssl.SSLContext | None], Poster] = {}
        self._silent: dict[str, float] = {}

    def needed(self) -> bool:
        """Whether a leader elsewhere is to be asked."""
        return bool(self._address())

    async def answer(self, verb: str, body: bytes) -> bytes | None:
        """The leader's answer to a verb that this replica can answer too; None when it must."""
        address = self._address()
        if not address or self._clock() < self._silent.get(address, 0.0):
            return None
        try:
            return await self._ask(address, verb, body, READ_S)
        except (PostError, ValueError) as error:
            self._silent = {address: self._clock() + PAUSE_S}
            _LOG.warning("the leader at %s does not answer %s (%s); this replica does", address, verb, error)
            return None

    async def bind(self, body: bytes) -> bytes:
        """The leader's answer to a bind, or an error that says why there is none."""
        address = self._address()
        if not address:
            return render_bind("no replica of the scheduler leads at this moment: try again")
        try:
            return await self._ask(address, "bind", body, BIND_S)
        except (PostError, ValueError) as error:
            return render_bind(f"the leader at {address} did not answer ({error}): try again")

    def close(self) -> None:
        """Close the connections."""
        for poster in self._posters.values():
            poster.close()

    def _address(self) -> str:
        """The leader's address, empty when there is none or this replica leads itself."""
        if self._leaders.term():
            return ""
        claim = self._leaders.leader()
        address = plain_address(claim.address) if claim is not None else ""
        return address if address != self._own else ""

    async def _ask(self, address: str, verb: str, body: bytes, seconds: float) -> bytes:
        outcome = "failed"
        try:
            async with asyncio.timeout(seconds):
                answer = await self._poster(address).post(f"/{verb}", _HEADERS, body, seconds)
            if answer.status != HTTPStatus.OK:
                raise ValueError(f"status {answer.status}")
            outcome = "answered"
            return answer.content
        except TimeoutError as error:
            raise ValueError(f"no answer in {seconds:.0f} s") from error
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.forwarded.labels(verb, outcome).inc()

    def _poster(self, address: str) -> Poster:
        """The connections to one leader; those to earlier ones, or with an earlier certificate, are closed."""
        tls = self._tls() if self._tls else None
        if (address, tls) not in self._posters:
            self.close()
            host, _, port = address.rpartition(":")
            self._posters = {(address, tls): Poster(host.strip("[]"), int(port), tls, MOST_CONNECTIONS)}
        return self._posters[address, tls]


def plain_address(address: str) -> str:
    """HOST:PORT as a URL wants it: brackets around IPv6 and nothing else, whatever a template wrote."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else address
