"""A stand-in for Ascend's own device plugin on a real kubelet: the gRPC and the annotations of such plugins."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.kubelet import rpc
from kerf.kube.client import Kube
from tests.vendors.stand_in import StandIn

RESOURCE = "huawei.com/Ascend910B3"
REGISTER, TO_ALLOCATE = "hami.io/node-register-Ascend910B3", "hami.io/Ascend910B3-devices-to-allocate"
SLOTS = 4


class AscendPlugin:
    """Serves the kubelet: each Allocate takes the devices of the pod that the node lock names."""

    def __init__(self, kube: Kube, node: str, plugin_dir: Path, cards: int) -> None:
        self._stand_in = StandIn(kube, node, TO_ALLOCATE)
        self._dir = plugin_dir
        self._cards = cards
        self._over = threading.Event()
        self.served: list[list[tuple[str, str, int, int]]] = []

    def start(self) -> "AscendPlugin":
        """Publish the cards, serve, and register with the kubelet."""
        card: dict[str, Any] = {"count": SLOTS, "devmem": 65_536, "devcore": 20, "type": "Ascend910B3", "health": True}
        devices = [{"id": f"Ascend910B3-{i}", "index": i, **card} for i in range(self._cards)]
        self._stand_in.register(**{REGISTER: json.dumps(devices), "hami-vnpu-core": "false"})
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((rpc.device_plugin_handlers(self),))
        self._server.add_insecure_port(f"unix://{self._dir}/ascend.sock")
        self._server.start()
        request = dp.RegisterRequest(version=rpc.API_VERSION, endpoint="ascend.sock", resource_name=RESOURCE)
        with rpc.connect(str(self._dir / "kubelet.sock")) as channel:
            rpc.register(channel, request, 10.0)
        return self

    def stop(self) -> None:
        """Serve no longer."""
        self._over.set()
        self._server.stop(1.0).wait()

    # ---- rpc.DevicePlugin
    def options(self, _request: dp.Empty, _context: grpc.ServicerContext) -> dp.DevicePluginOptions:
        return dp.DevicePluginOptions()

    def list_and_watch(self, _request: dp.Empty, context: grpc.ServicerContext) -> Iterator[dp.ListAndWatchResponse]:
        ids = (f"Ascend910B3-{i}-{slot}" for i in range(self._cards) for slot in range(SLOTS))
        yield dp.ListAndWatchResponse(devices=[dp.Device(ID=each, health="Healthy") for each in ids])
        while context.is_active() and not self._over.wait(0.2):
            pass

    def allocate(self, request: dp.AllocateRequest, _context: grpc.ServicerContext) -> dp.AllocateResponse:
        answers = []
        for _ in request.container_requests:
            devices = self._stand_in.allocate()
            self.served.append(devices)
            env = {"ASCEND_VISIBLE_DEVICES": ",".join(card for card, *_ in devices)}
            env["ASCEND_MIB"] = ",".join(str(mib) for _, _, mib, _ in devices)
            answers.append(dp.ContainerAllocateResponse(envs=env))
        return dp.AllocateResponse(container_responses=answers)

    def pre_start(
        self, _request: dp.PreStartContainerRequest, _context: grpc.ServicerContext
    ) -> dp.PreStartContainerResponse:
        return dp.PreStartContainerResponse()
