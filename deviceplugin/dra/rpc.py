"""The kubelet's gRPC services for DRA drivers by name. The only place that spells their method paths."""

from collections.abc import Callable
from typing import Any, Protocol

import grpc

from deviceplugin._pb import kubelet_dra_v1_pb2 as dra
from deviceplugin._pb import kubelet_pluginregistration_v1_pb2 as reg

SERVICES = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
"""What a kubelet is offered, the newest first. Both have the same messages."""
_REGISTRATION = "pluginregistration.Registration"


class Driver(Protocol):
    """What the kubelet calls about claims."""

    def prepare(
        self, request: dra.NodePrepareResourcesRequest, context: grpc.ServicerContext, /
    ) -> dra.NodePrepareResourcesResponse:
        """NodePrepareResources."""

    def unprepare(
        self, request: dra.NodeUnprepareResourcesRequest, context: grpc.ServicerContext, /
    ) -> dra.NodeUnprepareResourcesResponse:
        """NodeUnprepareResources."""


class Plugin(Protocol):
    """What the kubelet calls to register the driver."""

    def info(self, request: reg.InfoRequest, context: grpc.ServicerContext, /) -> reg.PluginInfo:
        """GetInfo."""

    def notify(
        self, request: reg.RegistrationStatus, context: grpc.ServicerContext, /
    ) -> reg.RegistrationStatusResponse:
        """NotifyRegistrationStatus."""


def driver_handlers(driver: Driver) -> tuple[grpc.GenericRpcHandler, ...]:
    """The driver's service in every version, for `server.add_generic_rpc_handlers`."""
    methods = {
        "NodePrepareResources": _unary(driver.prepare, dra.NodePrepareResourcesRequest),
        "NodeUnprepareResources": _unary(driver.unprepare, dra.NodeUnprepareResourcesRequest),
    }
    names = (f"k8s.io.kubelet.pkg.apis.dra.{service}" for service in SERVICES)
    return tuple(grpc.method_handlers_generic_handler(name, methods) for name in names)


def registration_handlers(plugin: Plugin) -> tuple[grpc.GenericRpcHandler, ...]:
    """The registration service."""
    methods = {
        "GetInfo": _unary(plugin.info, reg.InfoRequest),
        "NotifyRegistrationStatus": _unary(plugin.notify, reg.RegistrationStatus),
    }
    return (grpc.method_handlers_generic_handler(_REGISTRATION, methods),)


def _unary(method: Callable[..., Any], request: Any) -> Any:  # noqa: ANN401 (message classes share no useful type)
    return grpc.unary_unary_rpc_method_handler(method, request.FromString, lambda message: message.SerializeToString())
