"""Whether the API server answers: without it everything here is of before, and the page has to say so."""

import threading
import time
from collections.abc import Callable

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.obs.loop import Loop, run_every

LOOP = Loop("page-pulse", every_s=2.0, at_once=True)


class Pulse:
    """Reads one node now and then, while somebody looks. `lost` may be read from any thread."""

    def __init__(self, kube: Kube, looked_at: Callable[[], bool], clock: Callable[[], float] = time.time) -> None:
        self._kube = kube
        self._looked_at = looked_at
        self._clock = clock
        self._heard = clock()
        self.lost = 0.0
        """When it answered last, in seconds since 1970, where it does not answer now; 0 where it does."""

    def run(self, stop: threading.Event) -> None:
        """Ask until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """Ask once, where somebody looks or the last answer was none."""
        if not self._looked_at() and not self.lost:
            self._heard = self._clock()
            return
        try:
            self._kube.get(paths.NODES, {"limit": 1})
        except KubeError:
            self.lost = self.lost or self._heard
        else:
            self._heard, self.lost = self._clock(), 0.0
