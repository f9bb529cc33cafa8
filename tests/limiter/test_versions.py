"""Containers of two versions of the limiter on one card, as an upgrade leaves them side by side."""

import json
import subprocess
from pathlib import Path

import pytest

from kerf.wire import limiter as wire
from kerf.wire.limiter import render_arbiter
from tests.limiter.harness import BUILD, LIBRARY, MIB, OOM, Box, limits
from tests.upgrade.released import limiter

OK, REFUSED = "0 ok", f"{OOM} ok"
LOAD = BUILD / "programs" / "load"


@pytest.fixture(scope="module")
def old() -> Path:
    """The library of the version before."""
    return limiter()


def an_arbiter(folder: Path, version: int) -> str:
    """The card's arbiter as a version made it."""
    path, data = folder / f"arbiter.{version}", bytearray(render_arbiter())
    wire.RECORDS["arbiter"].write(data, 0, abi=version)
    path.write_bytes(bytes(data))
    return str(path)


def a_box(folder: Path, library: Path, name: str, memory: int = 64, **more: object) -> Box:
    return Box(folder, limits(memory, **more), name, settings={"LD_PRELOAD": str(library)})


def test_both_keep_their_slices_to_the_byte_on_one_card(tmp_path: Path, old: Path) -> None:
    boxes = [a_box(tmp_path, old, "before", 60), a_box(tmp_path, LIBRARY, "after", 100)]
    with boxes[0].probe() as before, boxes[1].probe() as after:
        assert [before("alloc", 1, 60 * MIB), after("alloc", 1, 100 * MIB)] == [OK, OK]
        assert [before("alloc", 2, 1), after("alloc", 2, 1)] == [REFUSED, REFUSED]
        assert [box.charged() for box in boxes] == [60 * MIB, 100 * MIB]


@pytest.mark.parametrize("was", [1, 2])
def test_an_arbiter_of_the_other_version_is_refused_with_a_word_and_the_slice_holds(
    tmp_path: Path, old: Path, was: int
) -> None:
    """No shared memory is reinterpreted: each limiter looks at the version."""
    library = LIBRARY if was == 1 else old
    box = a_box(tmp_path, library, "ledger", arbiter=an_arbiter(tmp_path, was), cores=50)
    with box.probe() as probe:
        assert [probe("alloc", 1, 64 * MIB), probe("alloc", 2, 1)] == [OK, REFUSED]
        assert box.run(LOAD, "1000000", "0.2", "stream").returncode == 0
    assert box.view().events["no_arbiter"] >= 1


def test_neither_is_stalled_by_the_other(tmp_path: Path, old: Path) -> None:
    """Each has the arbiter of its own version, as the device plugin gives it, and works for its share."""
    boxes = [
        a_box(tmp_path, old, "before", cores=50, arbiter=an_arbiter(tmp_path, 1), policy="cap"),
        a_box(tmp_path, LIBRARY, "after", cores=50, arbiter=an_arbiter(tmp_path, 2), policy="cap"),
    ]
    running = [
        subprocess.Popen([LOAD, "1000000", "3", "stream"], env=box.environment, stdout=subprocess.PIPE, text=True)
        for box in boxes
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in running]

    # A stalled one does next to nothing; a machine that is busy with other things takes its part of the rest.
    assert all(one["busy_ns"] / one["seconds"] / 1e7 > 10 for one in said), said
    assert [box.view().events for box in boxes] == [{}, {}]
