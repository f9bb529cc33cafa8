"""What gateways reported beside what engines counted, by model, over the last hours: the leader compares the two."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.metering.tokenprice import difference
from kerf.obs.loop import Loop, run_every
from kerf.values.engine import Tokens
from kerf.values.policy import MeteringSettings
from kerf.values.usage import ReportedHour
from kerf.wire.errors import WireError
from kerf.wire.gatewayrecords import PATH, parse_reported
from kerf.wire.usage import DAY, day_text

_LOG = logging.getLogger("kerf.metering.reported")
LOOP = Loop("metering.reported", every_s=60.0, at_once=True, expected=(KubeError,))
LABELS = ("model", "cluster")
Measured = Callable[[], Mapping[int, Mapping[str, Tokens]]]
"""Tokens by hour and served model, of the hours that are open."""


class ReportWatch:
    """One term's comparison. It is off unless the policy says `gatewayReports`."""

    def __init__(self, kube: Kube, settings: Callable[[], MeteringSettings], measured: Measured) -> None:
        self._kube = kube
        self._settings = settings
        self._measured = measured
        self._sums: tuple[Mapping[str, Tokens], Sequence[tuple[str, Tokens]]] | None = None

    def run(self, stop: threading.Event) -> None:
        """Compare once a minute until stopped."""
        run_every(LOOP, self.run_once, stop)

    def run_once(self) -> None:
        """Read the reports of the hours that are open. Raises KubeError."""
        settings = self._settings()
        if not (settings.enabled and settings.gateway_reports):
            self._sums = None
            return
        by_hour = self._measured()
        days = sorted({day_text(hour) for hour in by_hour})
        reported = [hour for hour in self._read(days) if hour.hour_ms in by_hour] if days else []
        measured: dict[str, Tokens] = {}
        for models in by_hour.values():
            for model, tokens in models.items():
                measured[model] = measured.get(model, Tokens()) + tokens
        self._sums = measured, [(row.model, Tokens(row.input, 0, row.output)) for h in reported for row in h.rows]

    def families(self, cluster: str) -> tuple[Metric, ...]:
        """Tokens of both, and by how much gateways report more, as a part of what engines counted."""
        if self._sums is None:
            return ()
        measured, reported = self._sums
        engines = GaugeMetricFamily("kerf_engine_tokens", "Tokens that engines counted", labels=LABELS)
        gateways = GaugeMetricFamily("kerf_gateway_tokens", "Tokens that gateways reported for these", labels=LABELS)
        apart = GaugeMetricFamily("kerf_gateway_difference_ratio", "How much more gateways report", labels=LABELS)
        said: dict[str, int] = {}
        for model, tokens in reported:
            said[model] = said.get(model, 0) + _all(tokens)
        for model, part in difference(measured, reported).items():
            engines.add_metric((model, cluster), _all(measured.get(model, Tokens())))
            gateways.add_metric((model, cluster), said.get(model, 0))
            apart.add_metric((model, cluster), part)
        return engines, gateways, apart

    def _read(self, days: Sequence[str]) -> list[ReportedHour]:
        try:
            items, _ = self._kube.list(PATH, {"labelSelector": f"{DAY} in ({','.join(days)})"})
        except NotFound:
            return []  # the CRD is not installed: no gateway reports
        found = []
        for item in items:
            try:
                found.append(parse_reported(item))
            except WireError as error:
                _LOG.warning("a GatewayUsage is left out: %s", error)
        return found


def _all(tokens: Tokens) -> int:
    return tokens.input + tokens.cached + tokens.output
