"""Serve the plugin's socket, and register again after each kubelet restart, which removes all plugins and sockets."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.core.slots import Resource
from deviceplugin.kubelet import rpc
from deviceplugin.kubelet.servicer import Servicer
from deviceplugin.metrics import PluginMetrics

_LOG = logging.getLogger("kerf.deviceplugin.registrar")
KUBELET = "kubelet.sock"
LOOK_S = 0.5
"""How often the sockets are checked."""
IGNORED_S = 10.0
"""The kubelet opens ListAndWatch right after a registration. If it does not, register again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
MOST_CALLS = 128
"""Containers that may be starting at once; each may wait for the API server."""

Stamp = tuple[int, int] | None


class Registrar:
    """Keeps the plugin registered for `resource` until stopped."""

    def __init__(self, plugin_dir: str, resource: Resource, servicer: Servicer, metrics: PluginMetrics) -> None:
        self._dir = Path(plugin_dir)
        self._resource = resource
        self._socket = f"kerf{resource.suffix}.sock"
        self._servicer = servicer
        self._metrics = metrics

    def run(self, stop: threading.Event) -> None:
        """Serve and register until `stop`; never raises."""
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            kubelet = _stamp(self._dir / KUBELET)
            if kubelet is None:
                stop.wait(LOOK_S)
                continue
            try:
                server = self._serve()
            except (OSError, RuntimeError) as error:
                pause = self._back_off(stop, pause, f"cannot serve on {self._dir / self._socket}: {error}")
                continue
            try:
                self._register()
                pause = FIRST_PAUSE_S
                self._stay(stop, kubelet)
            except grpc.RpcError as error:
                pause = self._back_off(stop, pause, f"the kubelet refuses the registration: {error}")
            finally:
                server.stop(grace=1.0).wait()

    def _serve(self) -> grpc.Server:
        path = self._dir / self._socket
        path.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="kubelet"))
        server.add_generic_rpc_handlers((rpc.device_plugin_handlers(self._servicer),))
        server.add_insecure_port(f"unix://{path}")
        server.start()
        return server

    def _register(self) -> None:
        request = dp.RegisterRequest(
            version=rpc.API_VERSION,
            endpoint=self._socket,
            resource_name=self._resource.name,
            options=dp.DevicePluginOptions(pre_start_required=True),
        )
        with rpc.connect(str(self._dir / KUBELET)) as channel:
            rpc.register(channel, request, timeout_s=5.0)
        self._metrics.registrations.inc()
        _LOG.info("registered %s with the kubelet", self._resource.name)

    def _stay(self, stop: threading.Event, kubelet: Stamp) -> None:
        own = _stamp(self._dir / self._socket)
        alone_s = 0.0
        while not stop.wait(LOOK_S):
            if _stamp(self._dir / KUBELET) != kubelet or _stamp(self._dir / self._socket) != own:
                _LOG.info("the kubelet has restarted: registering again")
                return
            alone_s = 0.0 if self._servicer.watchers else alone_s + LOOK_S
            if alone_s >= IGNORED_S:
                _LOG.warning("the kubelet does not watch the slots: registering again")
                return

    @staticmethod
    def _back_off(stop: threading.Event, pause: float, problem: str) -> float:
        _LOG.warning("%s; retrying in %.1f s", problem, pause)
        stop.wait(pause)
        return min(pause * 2, LONGEST_PAUSE_S)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_ctime_ns)
