"""The driver's two sockets: one in the kubelet's registry of plugins, one for its calls about claims."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from deviceplugin.dra import rpc
from deviceplugin.dra.servicer import DraServicer
from kerf.wire.devices import DRIVER

_LOG = logging.getLogger("kerf.deviceplugin.dra")
LOOK_S = 0.5
MOST_CALLS = 128
"""Pods that may be starting at once; each may wait for the API server."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0


def endpoint(plugins_dir: str) -> Path:
    """The socket of the driver's own service."""
    return Path(plugins_dir) / DRIVER / "dra.sock"


class DraSockets:
    """Serves both sockets until stopped, and makes them again where somebody removed them.

    The kubelet watches its registry: it registers a driver whose socket appears, and looks again after its own restart.
    """

    def __init__(self, registry_dir: str, plugins_dir: str, servicer: DraServicer) -> None:
        self._registry = Path(registry_dir) / f"{DRIVER}-reg.sock"
        self._endpoint = endpoint(plugins_dir)
        self._servicer = servicer

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`; never raises."""
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            servers: list[grpc.Server] = []
            try:
                servers.append(_serve(self._endpoint, rpc.driver_handlers(self._servicer)))
                servers.append(_serve(self._registry, rpc.registration_handlers(self._servicer)))
                pause = FIRST_PAUSE_S
                self._stay(stop)
            except (OSError, RuntimeError) as error:
                _LOG.warning("cannot serve %s: %s; retrying in %.1f s", DRIVER, error, pause)
                stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            finally:
                self._registry.unlink(missing_ok=True)  # first, so that the kubelet sends no more pods here
                for server in servers:
                    server.stop(grace=1.0).wait()

    def _stay(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            if not (self._endpoint.exists() and self._registry.exists()):
                _LOG.warning("a socket of %s was removed: serving again", DRIVER)
                return


def _serve(path: Path, handlers: tuple[grpc.GenericRpcHandler, ...]) -> grpc.Server:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="dra"))
    server.add_generic_rpc_handlers(handlers)
    server.add_insecure_port(f"unix://{path}")
    server.start()
    return server
