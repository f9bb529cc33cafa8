"""The device plugin service: it translates gRPC calls and leaves every decision to others."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import grpc

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.core.identify import Slots
from deviceplugin.core.refusal import StartRefusal
from deviceplugin.core.slots import qualified, stem, turn_name
from deviceplugin.kubelet.offer import Offer
from deviceplugin.kubelet.retry import Unavailable
from deviceplugin.metrics import PluginMetrics

_LOG = logging.getLogger("kerf.deviceplugin.servicer")
WAKE_S = 1.0
BUDGET_S = 25.0
"""The kubelet gives PreStartContainer 30 s."""
MARGIN_S = 2.0
"""Seconds of the kubelet's deadline that are left for the answer to arrive."""
Allocate = Callable[[Slots], dp.ContainerAllocateResponse | StartRefusal]
Start = Callable[[Slots, float], StartRefusal | None]


class Turns:
    """Names for CDI devices: each Allocate of the same slots gets the next name, which distinguishes the sharers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, int] = {}

    def allocate(self, slots: Slots) -> dp.ContainerAllocateResponse:
        """The next device name. Nothing is decided here."""
        key = stem(slots)
        with self._lock:
            turn = self._next.get(key, 0)
            self._next[key] = turn + 1
        return dp.ContainerAllocateResponse(cdi_devices=[dp.CDIDevice(name=qualified(turn_name(slots, turn)))])


@dataclass(slots=True)
class Servicer:
    """Implements `rpc.DevicePlugin`; `watchers` counts open ListAndWatch streams."""

    offer: Offer
    allocate_one: Allocate
    start_one: Start
    metrics: PluginMetrics
    watchers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watched(self) -> bool:
        """Whether a kubelet watches the slots, so that pods which arrive now are served."""
        return self.watchers > 0

    def options(self, _request: dp.Empty, _context: grpc.ServicerContext) -> dp.DevicePluginOptions:
        return dp.DevicePluginOptions(pre_start_required=True)

    def list_and_watch(self, _request: dp.Empty, context: grpc.ServicerContext) -> Iterator[dp.ListAndWatchResponse]:
        with self._lock:
            self.watchers += 1
        try:
            version, sent = -1, None
            while context.is_active():
                version = self.offer.wait(version, WAKE_S)
                slots = self.offer.slots()
                if slots != sent:
                    sent = slots
                    _LOG.info("%d slots, %d of them healthy", len(slots), sum(slot.healthy for slot in slots))
                    yield dp.ListAndWatchResponse(
                        devices=[dp.Device(ID=s.id, health="Healthy" if s.healthy else "Unhealthy") for s in slots]
                    )
        finally:
            with self._lock:
                self.watchers -= 1

    def allocate(self, request: dp.AllocateRequest, context: grpc.ServicerContext) -> dp.AllocateResponse:
        wanted = [tuple(sorted(container.devices_ids)) for container in request.container_requests]
        answers = [self._allocate(slots, context) for slots in wanted]
        return dp.AllocateResponse(container_responses=answers)

    def pre_start(
        self, request: dp.PreStartContainerRequest, context: grpc.ServicerContext
    ) -> dp.PreStartContainerResponse:
        slots = tuple(sorted(request.devices_ids))
        began = time.monotonic()
        budget = min(BUDGET_S, (context.time_remaining() or BUDGET_S) - MARGIN_S)
        try:
            refusal = self.start_one(slots, budget)
        except Unavailable as error:
            self.metrics.starts.labels("unavailable").inc()
            self._abort(context, grpc.StatusCode.UNAVAILABLE, slots, str(error))
        self.metrics.start_seconds.observe(time.monotonic() - began)
        self.metrics.starts.labels(refusal.why.value if refusal else "started").inc()
        if refusal is not None:
            self._abort(context, grpc.StatusCode.FAILED_PRECONDITION, slots, refusal.message)
        return dp.PreStartContainerResponse()

    def _allocate(self, slots: Slots, context: grpc.ServicerContext) -> dp.ContainerAllocateResponse:
        try:
            answer = self.allocate_one(slots)
        except Unavailable as error:
            self._abort(context, grpc.StatusCode.UNAVAILABLE, slots, str(error))
        if isinstance(answer, StartRefusal):
            self.metrics.starts.labels(answer.why.value).inc()
            self._abort(context, grpc.StatusCode.FAILED_PRECONDITION, slots, answer.message)
        return answer

    @staticmethod
    def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, slots: Slots, message: str) -> NoReturn:
        _LOG.warning("%s", message, extra={"data": {"slots": list(slots), "code": code.name}})
        context.abort(code, message)
        raise AssertionError("abort always raises")
