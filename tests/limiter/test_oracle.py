"""NVIDIA's own headers and runtime, from PyPI, as oracles: our ABI is theirs, and their look-ups are answered right."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.limiter.harness import BUILD, LIMITER, Box, limits
from tests.limiter.test_lookups import OURS, ask

WHEELS = {
    "nvidia-cuda-runtime==13.0.*": "nvidia/cu13",
    "nvidia-cuda-runtime-cu12==12.9.*": "nvidia/cuda_runtime",
    "nvidia-nvml-dev==13.0.*": "nvidia/cu13",
    "nvidia-nvml-dev-cu12==12.9.*": "nvidia/nvml_dev",
}
ABI = (LIMITER / "include" / "kerf" / "cuda_abi.h").read_text()


@pytest.fixture(scope="session")
def wheels() -> dict[str, Path]:
    """Unpacked wheels by requirement; kept in the build folder."""
    found = {}
    for requirement, inside in WHEELS.items():
        folder = BUILD / "oracle" / re.sub(r"[^\w.-]", "_", requirement)
        if not (folder / inside).exists():
            folder.mkdir(parents=True, exist_ok=True)
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
            got = subprocess.run([*pip, "-d", folder, requirement], capture_output=True, text=True, check=False)
            if got.returncode:
                pytest.skip(f"pip cannot fetch {requirement}: {got.stderr.strip()[-200:]}")
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
                wheel.extractall(folder)
        found[requirement] = folder / inside
    return found


def structs() -> dict[str, list[str]]:
    """Our structs with a body, by typedef name, and their fields."""
    bodies = re.findall(r"typedef struct \w+ \{(.*?)\n\} (\w+);", ABI, re.DOTALL)
    return {
        name: re.findall(r"(\w+)(?:\[\d+\])?;", re.sub(r"union \{.*?\n    \};", "", body, flags=re.DOTALL))
        for body, name in bodies
    }


def comparison(headers: list[str], theirs: dict[str, str], fields: dict[str, list[str]], constants: list[str]) -> str:
    """A C program that compiles only if sizes, offsets and constants agree."""
    types = sorted(set(re.findall(r"\b((?:CU|nvml)\w+|CUDA_\w+)(?=;|\b)", ABI)))
    names = [name for name in types if re.search(rf"\}} {name};|\*{name};|typedef [\w ]+ {name};|struct {name} ", ABI)]
    names += re.findall(r"\b(?:CU|CUDA|NVML)_[A-Z0-9_]+(?= =)", ABI)
    lines = ["#include <stddef.h>"]
    lines += [f"#define {name} ours_{name}" for name in names]
    lines += [f"#define {name}_st ours_{name}_st" for name in names]
    lines += [f'#include "{LIMITER}/include/kerf/cuda_abi.h"', "#undef CU_STREAM_LEGACY", "#undef CU_STREAM_PER_THREAD"]
    lines += [f"#undef {name}\n#undef {name}_st" for name in names]
    lines += [f'#include "{header}"' for header in headers]
    for name, members in fields.items():
        their = theirs.get(name, name)
        lines.append(f'_Static_assert(sizeof(ours_{name}) == sizeof({their}), "{name}");')
        lines += [
            f'_Static_assert(offsetof(ours_{name}, {m}) == offsetof({their}, {m}), "{name}.{m}");' for m in members
        ]
    lines += [f'_Static_assert((int)ours_{c} == (int){c}, "{c}");' for c in constants]
    return "\n".join([*lines, "int main(void) { return 0; }"])


@pytest.mark.parametrize(
    ("cuda", "nvml"),
    [
        ("nvidia-cuda-runtime==13.0.*", "nvidia-nvml-dev==13.0.*"),
        ("nvidia-cuda-runtime-cu12==12.9.*", "nvidia-nvml-dev-cu12==12.9.*"),
    ],
)
def test_our_abi_is_nvidias(wheels: dict[str, Path], tmp_path: Path, cuda: str, nvml: str) -> None:
    theirs = {
        "CUDA_ARRAY_DESCRIPTOR": "CUDA_ARRAY_DESCRIPTOR_v2",
        "CUDA_ARRAY3D_DESCRIPTOR": "CUDA_ARRAY3D_DESCRIPTOR_v2",
        "CUDA_MEM_ALLOC_NODE_PARAMS": "CUDA_MEM_ALLOC_NODE_PARAMS_v1",
    }
    internal = {"CUDA_ARRAY_DESCRIPTOR_v1", "CUDA_ARRAY3D_DESCRIPTOR_v1"}  # hidden in cuda.h
    fields = {name: members for name, members in structs().items() if name not in internal and "FIRST" not in name}
    constants = [c for c in re.findall(r"\b((?:CU|CUDA|NVML)_[A-Z0-9_]+) =", ABI) if "STREAM_CAPTURE_FIRST" not in c]
    constants = [c for c in constants if "STREAM_CAPTURE_LAST" not in c]
    source = tmp_path / "compare.c"
    headers = [str(wheels[cuda] / "include" / "cuda.h"), str(wheels[nvml] / "include" / "nvml.h")]
    source.write_text(comparison(headers, theirs, fields, constants))

    done = subprocess.run(
        ["gcc", "-std=gnu11", "-c", "-o", "/dev/null", source], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize(
    ("runtime", "least"), [("nvidia-cuda-runtime==13.0.*", 430), ("nvidia-cuda-runtime-cu12==12.9.*", 410)]
)
def test_all_look_ups_of_nvidias_runtime_are_answered_in_kind(
    wheels: dict[str, Path], tmp_path: Path, runtime: str, least: int
) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_LOG": "1"})
    library = next((wheels[runtime] / "lib").glob("libcudart.so.*"))
    environment = {key: value for key, value in box.environment.items() if key != "LD_PRELOAD"}
    log = subprocess.run(
        [BUILD / "programs" / "runtime", library], env=environment, capture_output=True, text=True, check=True
    ).stderr
    questions = [
        f"ask {name} {version} {flags}" for name, version, flags in re.findall(r"lookup (\w+) (\d+) (\d+)", log)
    ]
    assert len(questions) >= least

    bare, ours = ask(box, ["loaded", *questions], bare=True), ask(box, ["loaded", *questions])

    expected = []
    for answer in bare:
        library_name, _, rest = answer.partition(" ")
        hooked = library_name == "libcuda.so.1" and rest.split(" ")[0] in OURS
        expected.append(f"libkerf.so {rest}" if hooked else answer)
    assert ours == expected
    assert sum("_ptsz" in answer for answer in ours) >= 10
