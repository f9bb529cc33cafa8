"""The committed stubs are what the committed sources generate, and the wire is the kubelet's."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from deviceplugin._pb import kubelet_deviceplugin_v1beta1_pb2 as dp
from deviceplugin._pb import kubelet_podresources_v1_pb2 as pr

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "proto").glob("kubelet_*.proto"))


def test_generating_again_gives_the_same_files(tmp_path: Path):
    if not importlib.metadata.version("grpcio-tools").startswith("1.80."):
        pytest.skip("the stubs are made by grpcio-tools 1.80")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Ideviceplugin/_pb=proto"]
    names = [f"deviceplugin/_pb/{source.name}" for source in SOURCES]

    subprocess.run([*command, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *names], cwd=ROOT, check=True)

    made = {p.name: p.read_text() for p in (tmp_path / "deviceplugin/_pb").iterdir()}
    kept = {p.name: p.read_text() for p in (ROOT / "deviceplugin/_pb").glob("*_pb2.py*") if p.suffix in {".py", ".pyi"}}
    assert kept == made


def test_messages_are_encoded_with_the_kubelets_field_numbers():
    # tag = field number << 3 | 2 for strings and messages, | 0 for booleans
    request = dp.RegisterRequest(
        version="v", endpoint="e", resource_name="r", options=dp.DevicePluginOptions(pre_start_required=True)
    )
    assert request.SerializeToString(deterministic=True) == b"\x0a\x01v\x12\x01e\x1a\x01r\x22\x02\x08\x01"
    assert dp.Device(ID="i", health="h").SerializeToString() == b"\x0a\x01i\x12\x01h"
    answer = dp.ContainerAllocateResponse(cdi_devices=[dp.CDIDevice(name="n")])
    assert answer.SerializeToString() == b"\x2a\x03\x0a\x01n"
    assert dp.PreStartContainerRequest(devices_ids=["d"]).SerializeToString() == b"\x0a\x01d"


def test_fields_of_podresources_that_kerf_does_not_know_are_skipped():
    devices = b"\x0a\x01r\x12\x01d\x1a\x00"  # resource, id, topology
    container = b"\x0a\x01c\x12" + bytes([len(devices)]) + devices + b"\x1a\x01\x05"  # name, devices, cpu_ids
    pod = b"\x0a\x01p\x12\x01n\x1a" + bytes([len(container)]) + container

    read = pr.PodResources.FromString(pod)

    assert (read.name, read.namespace, read.containers[0].name) == ("p", "n", "c")
    assert [(d.resource_name, list(d.device_ids)) for d in read.containers[0].devices] == [("r", ["d"])]


def test_the_services_have_the_kubelets_names():
    assert sorted(dp.DESCRIPTOR.services_by_name["DevicePlugin"].methods_by_name) == [
        "Allocate",
        "GetDevicePluginOptions",
        "GetPreferredAllocation",
        "ListAndWatch",
        "PreStartContainer",
    ]
    assert pr.DESCRIPTOR.services_by_name["PodResourcesLister"].full_name == "v1.PodResourcesLister"
