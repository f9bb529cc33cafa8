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
from typing import Protocol

import aiohttp

from kerf.kube.leadership import Tenure
from kerf.kube.lease import Claim
from kerf.wire.extender import render_bind
from scheduler.metrics import SchedulerMetrics

_LOG = logging.getLogger("kerf.peers")
HEADER = "Kerf-Forwarded"
"""Marks a request that was passed on once, and is not passed on again."""
CONNECT_S = 0.5
READ_S = 1.0
"""For verbs that a follower can answer itself."""
BIND_S = 5.0
"""For bind: kube-scheduler waits for ten seconds."""
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
        tls: ssl.SSLContext | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leaders = leaders
        self._own = plain_address(own_address)
        self._metrics = metrics
        self._tls = tls
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._silent: dict[str, float] = {}

    async def answer(self, verb: str, body: bytes) -> bytes | None:
        """The leader's answer to a verb that this replica can answer too; None when it must."""
        address = self._address()
        if not address or self._clock() < self._silent.get(address, 0.0):
            return None
        try:
            return await self._ask(address, verb, body, READ_S)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = str(error) or f"no answer in {BIND_S:.0f} s"
            return render_bind(f"the leader at {address} did not answer ({words}): try again")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _address(self) -> str:
        """The leader's address, empty when there is none or this replica leads itself."""
        if self._leaders.term():
            return ""
        claim = self._leaders.leader()
        address = plain_address(claim.address) if claim is not None else ""
        return address if address != self._own else ""

    async def _ask(self, address: str, verb: str, body: bytes, seconds: float) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, ssl=self._tls or True), trust_env=False
            )
        scheme = "https" if self._tls else "http"
        outcome = "failed"
        try:
            async with self._session.post(
                f"{scheme}://{address}/{verb}",
                data=body,
                headers={HEADER: "1", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_S),
            ) as answer:
                answer.raise_for_status()
                data = await answer.read()
                outcome = "answered"
                return data
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.forwarded.labels(verb, outcome).inc()


def plain_address(address: str) -> str:
    """HOST:PORT as a URL wants it: brackets around IPv6 and nothing else, whatever a template wrote."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else address
