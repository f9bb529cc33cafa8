"""A kubelet in this process: registration, PodResources, its checkpoint, and its way of lending slots.

It is not in `kerf.testing`, because it uses the device plugin's own generated messages.
"""

import base64
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin._pb import kubelet_podresources_v1_pb2 as pr
from deviceplugin.kubelet import rpc


@dataclass
class Registered:
    """A plugin that has registered: its channel, its stream, and the health of its slots by id."""

    channel: grpc.Channel
    stream: Any
    devices: dict[str, str] = field(default_factory=dict)


@dataclass
class Admitted:
    """A pod with the slots and Allocate answers of its containers, each of which holds slots of one resource."""

    pod: dict[str, Any]
    resources: dict[str, str] = field(default_factory=dict)
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)
    answers: dict[str, dp.ContainerAllocateResponse] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return self.pod["metadata"]["uid"]


class FakeKubelet:
    """`plugin_dir` holds kubelet.sock and the plugin's socket, `socket` is PodResources."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.plugin_dir = root / "device-plugins"
        self.plugin_dir.mkdir(parents=True, exist_ok=True)
        self.socket = root / "pr.sock"
        self.random = random.Random(seed)
        self.pods: dict[str, Admitted] = {}
        self.checkpoint = True
        self.plugins: dict[str, Registered] = {}
        """By resource."""
        self.requests: list[dp.RegisterRequest] = []
        self._news = threading.Condition()
        self._servers: list[grpc.Server] = []

    # ---- life
    def start(self) -> "FakeKubelet":
        """Clean the plugin directory as the kubelet does, then serve."""
        for path in self.plugin_dir.glob("*.sock"):
            path.unlink()
        self.socket.unlink(missing_ok=True)
        registration = grpc.method_handlers_generic_handler(
            rpc.REGISTRATION,
            {
                "Register": grpc.unary_unary_rpc_method_handler(
                    self._register, dp.RegisterRequest.FromString, dp.Empty.SerializeToString
                )
            },
        )
        resources = grpc.method_handlers_generic_handler(
            rpc.POD_RESOURCES,
            {
                "List": grpc.unary_unary_rpc_method_handler(
                    self._list, pr.ListPodResourcesRequest.FromString, pr.ListPodResourcesResponse.SerializeToString
                )
            },
        )
        for handler, path in ((resources, self.socket), (registration, self.plugin_dir / "kubelet.sock")):
            server = grpc.server(ThreadPoolExecutor(32))
            server.add_generic_rpc_handlers((handler,))
            server.add_insecure_port(f"unix://{path}")
            server.start()
            self._servers.append(server)
        return self

    def stop(self) -> None:
        """Go away, sockets and all; pods and the checkpoint stay."""
        with self._news:
            plugins, self.plugins = self.plugins, {}
        for plugin in plugins.values():
            plugin.stream.cancel()
            plugin.channel.close()
        for server in self._servers:
            server.stop(grace=0).wait()
        self._servers.clear()
        (self.plugin_dir / "kubelet.sock").unlink(missing_ok=True)

    @property
    def devices(self) -> dict[str, str]:
        """The health of every slot by id."""
        return {slot: health for plugin in self.plugins.values() for slot, health in plugin.devices.items()}

    def wait_devices(self, healthy: int, timeout_s: float = 10.0) -> None:
        """Until the plugin has reported this many healthy slots."""
        with self._news:
            assert self._news.wait_for(lambda: self.healthy() == healthy, timeout_s), self.devices

    def wait_registrations(self, count: int, timeout_s: float = 20.0) -> None:
        """Until the plugin has registered this often."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) >= count, timeout_s), self.requests

    def healthy(self) -> int:
        return sum(health == "Healthy" for health in self.devices.values())

    # ---- pods
    def admit(self, pod: dict[str, Any]) -> Admitted:
        """Allocate for every container, init first, lending plain init containers' slots to later ones."""
        admitted = Admitted(pod)
        reusable: set[str] = set()
        spec = pod["spec"]
        listed = [(c, c.get("restartPolicy") != "Always") for c in spec.get("initContainers", [])]
        listed += [(c, False) for c in spec["containers"]]
        for container, plain_init in listed:
            limits = container.get("resources", {}).get("limits", {})
            resource = next((name for name in self.plugins if int(limits.get(name, 0))), None)
            if resource is None:
                continue
            slots = self._pick(resource, int(limits[resource]), reusable)
            answer = self.allocate(slots)
            reusable = reusable | set(slots) if plain_init else reusable - set(slots)
            admitted.resources[container["name"]] = resource
            admitted.slots[container["name"]] = slots
            admitted.answers[container["name"]] = answer
            self.pods[admitted.uid] = admitted
            self._write_checkpoint()
        return admitted

    def allocate(self, slots: tuple[str, ...]) -> dp.ContainerAllocateResponse:
        request = dp.AllocateRequest(container_requests=[dp.ContainerAllocateRequest(devices_ids=slots)])
        answer = self._call("Allocate", slots, request, dp.AllocateResponse)
        return answer.container_responses[0]

    def pre_start(self, slots: tuple[str, ...], timeout_s: float = 30.0) -> None:
        """Raises grpc.RpcError when the plugin refuses."""
        shuffled = self.random.sample(slots, len(slots))
        self._call(
            "PreStartContainer",
            slots,
            dp.PreStartContainerRequest(devices_ids=shuffled),
            dp.PreStartContainerResponse,
            timeout_s,
        )

    def start_container(self, admitted: Admitted, container: str, timeout_s: float = 30.0) -> str:
        """PreStartContainer; the CDI device name the runtime would resolve now."""
        self.pre_start(admitted.slots[container], timeout_s)
        return admitted.answers[container].cdi_devices[0].name

    def forget(self, uid: str) -> None:
        """The pod is over: its slots are free. The checkpoint keeps its entries until the next admission."""
        del self.pods[uid]

    # ---- inside
    def _pick(self, resource: str, count: int, reusable: set[str]) -> tuple[str, ...]:
        used = {slot for pod in self.pods.values() for slots in pod.slots.values() for slot in slots}
        lent = self.random.sample(sorted(reusable), min(count, len(reusable)))
        devices = self.plugins[resource].devices
        free = sorted(name for name, health in devices.items() if health == "Healthy" and name not in used)
        return (*lent, *self.random.sample(free, count - len(lent)))

    def _call(self, method: str, slots: tuple[str, ...], request: Any, answer: Any, timeout_s: float = 30.0) -> Any:
        owners = [plugin for plugin in self.plugins.values() if set(slots) & plugin.devices.keys()]
        (plugin, *_) = owners or self.plugins.values()  # HAMi's slots are known to no plugin
        call = plugin.channel.unary_unary(
            f"/{rpc.DEVICE_PLUGIN}/{method}", lambda message: message.SerializeToString(), answer.FromString
        )
        return call(request, timeout=timeout_s)

    def _register(self, request: dp.RegisterRequest, context: grpc.ServicerContext) -> dp.Empty:
        threading.Thread(target=self._connect, args=(request,), daemon=True).start()
        return dp.Empty()

    def _connect(self, request: dp.RegisterRequest) -> None:
        channel = rpc.connect(str(self.plugin_dir / request.endpoint))
        stream = channel.unary_stream(
            f"/{rpc.DEVICE_PLUGIN}/ListAndWatch", dp.Empty.SerializeToString, dp.ListAndWatchResponse.FromString
        )(dp.Empty())
        plugin = Registered(channel, stream)
        with self._news:
            self.plugins[request.resource_name] = plugin
            self.requests.append(request)
            self._news.notify_all()
        try:
            for answer in stream:
                with self._news:
                    if self.plugins.get(request.resource_name) is plugin:
                        plugin.devices = {device.ID: device.health for device in answer.devices}
                        self._news.notify_all()
        except grpc.RpcError:
            pass

    def _list(self, request: pr.ListPodResourcesRequest, context: grpc.ServicerContext) -> pr.ListPodResourcesResponse:
        """App and sidecar containers only; one entry per device, with other resources between them."""
        pods = []
        for admitted in list(self.pods.values()):
            plain = {
                c["name"] for c in admitted.pod["spec"].get("initContainers", []) if c.get("restartPolicy") != "Always"
            }
            containers = [
                pr.ContainerResources(
                    name=name,
                    devices=[
                        pr.ContainerDevices(resource_name="example.com/nic", device_ids=["kerf-0"]),
                        *(
                            pr.ContainerDevices(resource_name=admitted.resources[name], device_ids=[slot])
                            for slot in slots
                        ),
                    ],
                )
                for name, slots in admitted.slots.items()
                if name not in plain
            ]
            meta = admitted.pod["metadata"]
            pods.append(pr.PodResources(name=meta["name"], namespace=meta["namespace"], containers=containers))
        self.random.shuffle(pods)
        return pr.ListPodResourcesResponse(pod_resources=pods)

    def _write_checkpoint(self) -> None:
        path = self.plugin_dir / "kubelet_internal_checkpoint"
        if not self.checkpoint:
            path.unlink(missing_ok=True)
            return
        entries = [
            {
                "PodUID": admitted.uid,
                "ContainerName": name,
                "ResourceName": admitted.resources[name],
                "DeviceIDs": {"-1": list(slots)},
                "AllocResp": base64.b64encode(admitted.answers[name].SerializeToString()).decode(),
            }
            for admitted in self.pods.values()
            for name, slots in admitted.slots.items()
        ]
        path.write_text(json.dumps({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 1}))
