"""Which containers hold which slots: the kubelet's PodResources API, and its checkpoint file."""

import base64
import binascii
import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin.core.identify import Held, Recorded
from deviceplugin.kubelet import rpc
from kerf.wire.cdi import KIND

_LOG = logging.getLogger("kerf.deviceplugin.podresources")
CHECKPOINT = "kubelet_internal_checkpoint"


class PodResources:
    """Reads the slots of one resource. Both methods are safe from several threads."""

    def __init__(self, socket: str, plugin_dir: str, resource: str) -> None:
        self._channel = rpc.connect(socket)
        self._checkpoint = Path(plugin_dir) / CHECKPOINT
        self._resource = resource

    def held(self, timeout_s: float) -> tuple[Held, ...]:
        """Slots per app and sidecar container, joined from one entry per device. Raises grpc.RpcError."""
        found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for pod in rpc.list_pods(self._channel, timeout_s).pod_resources:
            for container in pod.containers:
                for devices in container.devices:
                    if devices.resource_name == self._resource:
                        found[pod.namespace, pod.name, container.name].extend(devices.device_ids)
        return tuple(sorted(Held(*key, tuple(sorted(ids))) for key, ids in found.items()))

    def recorded(self) -> tuple[Recorded, ...] | None:
        """The checkpoint's entries. None if it cannot be read, which is no error: the file is the kubelet's."""
        try:
            entries = json.loads(self._checkpoint.read_text(encoding="utf-8"))["Data"]["PodDeviceEntries"] or []
            return tuple(sorted(_entry(entry) for entry in entries if entry["ResourceName"] == self._resource))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DecodeError) as error:
            _LOG.warning("the kubelet's checkpoint cannot be read: %s: %s", type(error).__name__, error)
            return None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _entry(entry: dict[str, Any]) -> Recorded:
    ids = entry["DeviceIDs"]
    slots = [slot for numa in ids.values() for slot in numa] if isinstance(ids, dict) else list(ids)
    try:
        answer = dp.ContainerAllocateResponse.FromString(base64.b64decode(entry["AllocResp"] or ""))
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    names = tuple(
        device.name.removeprefix(f"{KIND}=") for device in answer.cdi_devices if device.name.startswith(f"{KIND}=")
    )
    return Recorded(str(entry["PodUID"]), str(entry["ContainerName"]), tuple(sorted(set(slots))), names)
