"""Limits of pods' memory in the driver: set before a pod's first container is made, and again where they were lost.

A limit lies on the pod's own cgroup, which the kubelet makes before it asks for devices. So it holds before the first
process runs, and goes with the cgroup. The pod's containers are kept apart by the limiter, as without driver limits.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from deviceplugin.core.limits import pod_limits
from deviceplugin.core.refusal import StartRefusal, Why
from kerf.probes.base import LimitDriver, LimitError
from kerf.probes.cgroups import pod_cgroup, problem
from kerf.values.device import Card
from kerf.values.grant import Holding

_LOG = logging.getLogger("kerf.deviceplugin.limits")
RETRY_S = 600
"""How long a card counts as without driver limits after its driver did not keep one."""


class PodLimits:
    """Limits below `root`, the directory of the host's cgroups that holds kubepods. `drivers` are by vendor.

    `never` says why this plugin can keep none whatever the driver does; empty where it can.
    """

    def __init__(
        self, root: Path, drivers: Mapping[str, LimitDriver], never: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root
        self._drivers = drivers
        self._never = never
        self._clock = clock
        self._failed: dict[str, tuple[float, str]] = {}

    def failed(self, card: str) -> str:
        """Why a limit of this card is not kept here, or was not lately; empty where it is."""
        if self._never:
            return self._never
        at, reason = self._failed.get(card, (0.0, ""))
        return (reason if self._clock() - at < RETRY_S else "") or problem(self._root)

    def keep(self, holding: Holding, cards: Mapping[str, Card]) -> StartRefusal | None:
        """Limit a pod that starts. It does not start where the driver refuses or does not say what it was given."""
        wanted = pod_limits(holding, cards)
        if not wanted:
            return None
        place = pod_cgroup(self._root, holding.uid)
        if place is None:
            message = f"pod {holding.pod}: the kubelet has made no cgroup for it below {self._root}"
            return StartRefusal(Why.NO_LIMIT, message, lasting=False)
        for card, limit in wanted.items():
            try:
                self._set(cards[card], str(place), limit)
            except LimitError as error:
                self._failed[card] = (self._clock(), str(error))
                _LOG.warning("card %s: %s", card, error)
                return StartRefusal(Why.NO_LIMIT, f"pod {holding.pod}: card {card}: {error}", lasting=False)
        return None

    def again(self, holdings: Iterable[Holding], cards: Mapping[str, Card]) -> int:
        """Set the limits of running pods where they are not what they should be; how many were. Never raises."""
        changed = 0
        for holding in holdings:
            wanted = pod_limits(holding, cards)
            place = pod_cgroup(self._root, holding.uid) if wanted else None
            for card, limit in wanted.items() if place is not None else ():
                try:
                    if self._driver(cards[card]).limit_of(card, str(place)) == limit:
                        continue
                    self._set(cards[card], str(place), limit)
                    changed += 1
                    _LOG.info("pod %s: the driver keeps its memory on card %s again", holding.pod, card)
                except LimitError as error:
                    _LOG.warning("pod %s: card %s: %s", holding.pod, card, error)
        return changed

    # ---- inside
    def _set(self, card: Card, cgroup: str, limit: int) -> None:
        """Set a limit and read it back: a driver that has the call need not keep limits. Raises LimitError."""
        driver = self._driver(card)
        driver.limit(card.id, cgroup, limit)
        found = driver.limit_of(card.id, cgroup)
        if found != limit:
            raise LimitError(f"the driver was given a limit of {limit} bytes and says {found or 'none'}")

    def _driver(self, card: Card) -> LimitDriver:
        driver = self._drivers.get(card.vendor)
        if driver is None:
            raise LimitError(f"no driver of vendor {card.vendor} keeps limits")
        return driver
