"""The driver's service: it translates gRPC calls and leaves every decision to others."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from deviceplugin._pb import kubelet_dra_v1_pb2 as dra
from deviceplugin._pb import kubelet_pluginregistration_v1_pb2 as reg
from deviceplugin.core.prepared import ClaimRef, PreparedDevice
from deviceplugin.core.slots import qualified
from deviceplugin.dra.prepare import Preparer
from deviceplugin.dra.rpc import SERVICES
from deviceplugin.kubelet.retry import Unavailable
from deviceplugin.metrics import PluginMetrics
from kerf.wire.devices import DRIVER

_LOG = logging.getLogger("kerf.deviceplugin.dra")
BUDGET_S = 25.0
"""The kubelet gives a call 45 s."""
MARGIN_S = 2.0


@dataclass(slots=True)
class DraServicer:
    """Implements `rpc.Driver` and `rpc.Plugin`."""

    preparer: Preparer
    metrics: PluginMetrics
    endpoint: str
    registered: bool = False
    """Whether a kubelet knows the driver, so that pods which arrive now are served."""

    def prepare(
        self, request: dra.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> dra.NodePrepareResourcesResponse:
        began = time.monotonic()
        budget = min(BUDGET_S, (context.time_remaining() or BUDGET_S) - MARGIN_S)
        refs = _refs(request.claims)
        try:
            answers = self.preparer.prepare(refs, budget)
        except Unavailable as error:
            self.metrics.prepares.labels("unavailable").inc(len(refs))
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        self.metrics.prepare_seconds.observe(time.monotonic() - began)
        for found in answers.values():
            self.metrics.prepares.labels("refused" if isinstance(found, str) else "prepared").inc()
        return dra.NodePrepareResourcesResponse(claims={uid: _answer(found) for uid, found in answers.items()})

    def unprepare(
        self, request: dra.NodeUnprepareResourcesRequest, _context: grpc.ServicerContext
    ) -> dra.NodeUnprepareResourcesResponse:
        self.preparer.release(_refs(request.claims))
        done = {claim.uid: dra.NodeUnprepareResourceResponse() for claim in request.claims}
        return dra.NodeUnprepareResourcesResponse(claims=done)

    def info(self, _request: reg.InfoRequest, _context: grpc.ServicerContext) -> reg.PluginInfo:
        return reg.PluginInfo(type="DRAPlugin", name=DRIVER, endpoint=self.endpoint, supported_versions=SERVICES)

    def notify(self, request: reg.RegistrationStatus, _context: grpc.ServicerContext) -> reg.RegistrationStatusResponse:
        self.registered = request.plugin_registered
        if request.plugin_registered:
            self.metrics.registrations.inc()
            _LOG.info("the kubelet has registered %s", DRIVER)
        else:
            _LOG.error("the kubelet refuses %s: %s", DRIVER, request.error)
        return reg.RegistrationStatusResponse()


def _refs(claims: Iterable[dra.Claim]) -> tuple[ClaimRef, ...]:
    return tuple(ClaimRef(claim.namespace, claim.name, claim.uid) for claim in claims)


def _answer(found: tuple[PreparedDevice, ...] | str) -> dra.NodePrepareResourceResponse:
    if isinstance(found, str):
        return dra.NodePrepareResourceResponse(error=found)
    return dra.NodePrepareResourceResponse(devices=[_device(device) for device in found])


def _device(device: PreparedDevice) -> dra.Device:
    return dra.Device(
        request_names=[device.share.request],
        pool_name=device.pool,
        device_name=device.share.device,
        cdi_device_ids=[qualified(device.cdi)] if device.cdi else [],
        share_id=device.share.share_id or None,
    )
