"""The limiter on a real kubelet: a container gets its slice to the last block and no byte more, beside its neighbour.

The driver is the fake one of limiter/tests, the card one file that all containers share; everything else is real.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_container
from kerf.values.units import MIB
from sandbox import ControlPlane, Node, await_until, parse_report
from sandbox.stack import PLUGIN, start_plugin, start_stack, stop_stack
from tests.cluster.gpu_pods import PODS, remove_pods

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
LIMITER = ROOT / "limiter"
IMAGE = "kerf.dev/sandbox/slice:1"
CARD = "GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae00"
CONTEXT_MIB = 16
BLOCK = 2 * MIB


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, node: Node) -> Iterator[tuple[ControlPlane, Node, Path]]:
    shared = control_plane.run_dir / "gpu"
    shared.mkdir(exist_ok=True)
    node.import_image(IMAGE, image_files(control_plane.run_dir), ("/app/slice",))
    fleet = control_plane.run_dir / "slice-fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [{"model": "Fake", "memory_mib": 81_920, "ids": [CARD], "count": 1}]}))
    start_stack(control_plane)
    start_plugin(control_plane, node, fleet, ("--limiter", str(LIMITER / "build" / "libkerf.so")))
    yield control_plane, node, shared
    remove_pods(control_plane)
    stop_stack(control_plane, PLUGIN)


def image_files(directory: Path) -> dict[str, bytes]:
    """The program, the fake driver, and the C library that both need."""
    subprocess.run(["make", "-s", "-C", str(LIMITER), "programs"], check=True)
    program, fake = directory / "slice", LIMITER / "build" / "fake"
    source = ROOT / "tests" / "cluster" / "programs" / "slice.c"
    subprocess.run(["gcc", "-O1", "-o", program, source, f"-L{fake}", "-l:libcuda.so.1"], check=True)
    libraries = {f"/fake/{name}": (fake / name).read_bytes() for name in ("libcuda.so.1", "libnvidia-ml.so.1")}
    needed = [
        program,
        *(fake / name for name in ("libcuda.so.1", "libnvidia-ml.so.1")),
        LIMITER / "build" / "libkerf.so",
    ]
    listed = subprocess.run(
        ["ldd", *needed], check=True, capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(fake)}
    ).stdout
    system = {path for path in re.findall(r"(/\S+) \(0x", listed) if "/fake/" not in path}
    return {"/app/slice": program.read_bytes(), **libraries, **{path: Path(path).read_bytes() for path in system}}


def a_pod(name: str, mem: int, shared: Path) -> dict[str, Any]:
    settings = {
        "LD_LIBRARY_PATH": "/fake",
        "FAKE_GPU": "/shared/gpu",
        "FAKE_MEMORY_MIB": "81920",
        "FAKE_CONTEXT_MIB": str(CONTEXT_MIB),
    }
    container = {
        **a_container("main", mem=mem, cores=30),
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "env": [{"name": key, "value": value} for key, value in settings.items()],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "shared", "hostPath": {"path": str(shared)}}],
        },
    }


def seen(node: Node, name: str) -> dict[str, int]:
    """What the program in a pod found."""
    await_until(lambda: parse_report(node.output("default", name, "main")).complete, f"the report of {name}")
    found = parse_report(node.output("default", name, "main")).environment
    return {key: int(value) for key, value in found.items()}


def test_two_containers_on_one_card_each_get_their_slice_to_the_last_block_and_not_a_byte_more(cluster):
    cp, node, shared = cluster
    slices = {"small": 3000, "large": 5000}

    for name, mem in slices.items():
        cp.api.post(PODS, a_pod(name, mem, shared))
    found = {name: seen(node, name) for name in slices}

    for name, mem in slices.items():
        told = found[name]
        assert (told["start"], told["info"], told["untouched"]) == (0, 0, 1), name
        assert told["total"] == mem * MIB, name
        assert told["refusal"] == 2, name  # CUDA_ERROR_OUT_OF_MEMORY
        # Everything but the context's own memory, to within one block of 2 MiB.
        assert 0 <= mem * MIB - CONTEXT_MIB * MIB - told["granted"] < BLOCK, name
