"""Every look-up gets the wrapper of exactly the variant the driver meant, or the driver's own answer."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.limiter.harness import BUILD, LIMITER, Box, limits

LIST = (LIMITER / "src" / "driver" / "hooks.def").read_text()
HOOKS = re.findall(r"^CUDA_HOOK\((\w+), (\w+), (\d+), (\d),", LIST, re.MULTILINE)
NVML = re.findall(r"^NVML_HOOK\((\w+)", LIST, re.MULTILINE)
OURS = {symbol for symbol, *_ in HOOKS}


def ask(box: Box, questions: list[str], bare: bool = False) -> list[str]:
    """The answers of the lookups program, under the limiter or without it."""
    environment = {key: value for key, value in box.environment.items() if not (bare and key == "LD_PRELOAD")}
    done = subprocess.run(
        [BUILD / "programs" / "lookups"],
        env=environment,
        input="\n".join([*questions, ""]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path, limits(64))


def test_dlsym_gives_the_wrapper_of_the_same_name(box: Box) -> None:
    symbols = [symbol for symbol, *_ in HOOKS]

    answers = ask(box, ["loaded", *(f"dlsym {symbol}" for symbol in symbols)])

    assert answers == ["1", *(f"libkerf.so {symbol} 0 0" for symbol in symbols)]


def test_cugetprocaddress_gives_the_exact_version_and_stream_flavour(box: Box) -> None:
    answers = ask(box, ["loaded", *(f"ask {base} {version} {flag}" for _, base, version, flag in HOOKS)])

    assert answers == ["1", *(f"libkerf.so {symbol} 0 0" for symbol, *_ in HOOKS)]


def test_an_older_version_gets_the_older_function(box: Box) -> None:
    questions = ["ask cuMemAlloc 2000 0", "ask cuMemAlloc 3020 0", "ask cuGraphAddNode 12020 0"]
    questions += ["ask cuGraphAddNode 13000 0", "ask cuMemAllocAsync 11010 0", "ask cuLaunchKernel 13000 2"]

    assert ask(box, ["loaded", *questions])[1:] == [
        "libkerf.so cuMemAlloc 0 0",
        "libkerf.so cuMemAlloc_v2 0 0",
        "libkerf.so cuGraphAddNode 0 0",
        "libkerf.so cuGraphAddNode_v2 0 0",
        "none - 0 2",  # too old for it: the driver's own answer
        "libkerf.so cuLaunchKernel_ptsz 0 0",
    ]


def test_what_is_not_ours_is_the_drivers_answer(box: Box) -> None:
    questions = ["loaded", "dlsym cuCtxGetDevice", "dlsym cuNoSuchThing", "dlsym curl_easy_init"]
    questions += ["ask cuCtxGetDevice 2000 0", "ask cuNoSuchThing 13000 0", "next open", "next open", "default malloc"]
    questions += ["next ompt_start_tool", "libc strlen", "dlsym nvmlNoSuchThing"]

    assert ask(box, questions) == ask(box, questions, bare=True)


def test_before_cuda_is_loaded_there_is_no_cuda(box: Box) -> None:
    questions = ["default cuInit", "next cuInit", "default nvmlInit_v2", "loaded", "default cuMemAlloc_v2"]

    assert ask(box, questions)[:3] == ["none - 0 0"] * 3


def test_a_jemalloc_like_preload_beside_us_finds_its_own_next(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdlib.h>\n"
        "void *malloc(size_t n) { static void *(*next)(size_t); static char early[4096]; static int busy;\n"
        "  if (!next && busy) return early; busy = 1;\n"
        '  if (!next) next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");\n'
        "  if (next == malloc) abort();\n  return next(n); }\n"
    )
    other = tmp_path / "other.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", other, source, "-ldl"], check=True)
    box.settings["LD_PRELOAD"] = f"{box.environment['LD_PRELOAD']}:{other}"

    done = box.run("/bin/sh", "-c", "echo fine")

    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
