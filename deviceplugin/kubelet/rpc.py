"""The kubelet's gRPC services by name, for servers and clients. The only place that spells method paths."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin._pb import kubelet_podresources_v1_pb2 as pr

API_VERSION = "v1beta1"
DEVICE_PLUGIN = "v1beta1.DevicePlugin"
REGISTRATION = "v1beta1.Registration"
POD_RESOURCES = "v1.PodResourcesLister"
LARGEST_MESSAGE = 16 << 20
"""Bytes. The list of a node with hundreds of pods fits."""


class DevicePlugin(Protocol):
    """What the kubelet calls."""

    def options(self, request: dp.Empty, context: grpc.ServicerContext, /) -> dp.DevicePluginOptions:
        """GetDevicePluginOptions."""

    def list_and_watch(self, request: dp.Empty, context: grpc.ServicerContext, /) -> Iterator[dp.ListAndWatchResponse]:
        """ListAndWatch."""

    def allocate(self, request: dp.AllocateRequest, context: grpc.ServicerContext, /) -> dp.AllocateResponse:
        """Allocate."""

    def pre_start(
        self, request: dp.PreStartContainerRequest, context: grpc.ServicerContext, /
    ) -> dp.PreStartContainerResponse:
        """PreStartContainer."""


def device_plugin_handlers(plugin: DevicePlugin) -> grpc.GenericRpcHandler:
    """The device plugin service, for `server.add_generic_rpc_handlers`."""
    return grpc.method_handlers_generic_handler(
        DEVICE_PLUGIN,
        {
            "GetDevicePluginOptions": _unary(plugin.options, dp.Empty),
            "Allocate": _unary(plugin.allocate, dp.AllocateRequest),
            "PreStartContainer": _unary(plugin.pre_start, dp.PreStartContainerRequest),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                plugin.list_and_watch, dp.Empty.FromString, dp.ListAndWatchResponse.SerializeToString
            ),
        },
    )


def connect(socket: str) -> grpc.Channel:
    """A channel to a unix socket; it connects on its first call."""
    limit = [("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.enable_http_proxy", 0)]
    return grpc.insecure_channel(f"unix://{socket}", options=limit)


def register(channel: grpc.Channel, request: dp.RegisterRequest, timeout_s: float) -> None:
    """Register a plugin with the kubelet. Raises grpc.RpcError."""
    call = channel.unary_unary(f"/{REGISTRATION}/Register", dp.RegisterRequest.SerializeToString, dp.Empty.FromString)
    call(request, timeout=timeout_s)


def list_pods(channel: grpc.Channel, timeout_s: float) -> pr.ListPodResourcesResponse:
    """Which containers hold which devices. Raises grpc.RpcError."""
    call = channel.unary_unary(
        f"/{POD_RESOURCES}/List",
        pr.ListPodResourcesRequest.SerializeToString,
        pr.ListPodResourcesResponse.FromString,
    )
    answer: pr.ListPodResourcesResponse = call(pr.ListPodResourcesRequest(), timeout=timeout_s)
    return answer


def _unary(method: Callable[..., Any], request: Any) -> Any:  # noqa: ANN401 (message classes share no useful type)
    return grpc.unary_unary_rpc_method_handler(method, request.FromString, lambda message: message.SerializeToString())
