"""Processes come and go: fork, exec, SIGKILL at any instant; ledgers that cannot be used."""

from pathlib import Path

import pytest

from kerf.wire import limiter as wire
from kerf.wire.limiter import CardLimit, LedgerSpec
from tests.limiter.harness import BUILD, LIBRARY, MIB, OOM, Box, card_uuid, limits

OK = "0 ok"
REFUSED = f"{OOM} ok"


def test_a_killed_process_gives_its_bytes_back(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as dying, box.probe() as living:
        assert dying("alloc", 1, 60 * MIB) == OK
        assert living("alloc", 1, 60 * MIB) == REFUSED
        dying.kill()
        assert [use.pid for use in box.view().processes if use.alive] == [living.process.pid]
        assert living("alloc", 1, 60 * MIB) == OK
        assert box.view().events == {"process_lost": 1}


def test_a_forked_child_has_its_own_slot_and_none_of_its_parents_bytes(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe(init=False) as probe:
        assert probe("fork").startswith("child")
        assert probe("init", 0) == "0"
        assert probe("alloc", 1, 40 * MIB) == OK
        assert len(box.view().processes) == 1


def test_a_child_forked_after_cuda_began_does_not_free_its_parents_bytes(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        assert probe("alloc", 1, 40 * MIB) == OK
        assert probe("fork").startswith("child")
        assert probe("init", 0) == "0"
        assert probe("alloc", 2, 40 * MIB) == REFUSED
        assert probe("alloc", 3, 24 * MIB) == OK
        assert sorted(use.bytes_by_card for use in box.view().processes) == [(24 * MIB,), (40 * MIB,)]


def test_exec_gives_everything_back(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        assert probe("alloc", 1, 60 * MIB) == OK
        assert probe.exec() == "0"
        assert probe("alloc", 1, 60 * MIB) == OK


@pytest.mark.parametrize("content", [None, b"", b"x" * 65536])
def test_without_a_usable_ledger_memory_is_refused_and_said_once(tmp_path: Path, content: bytes | None) -> None:
    box = Box(tmp_path, limits(64))
    box.path.unlink() if content is None else box.path.write_bytes(content)
    with box.probe() as probe:
        assert [probe("alloc", 1, MIB), probe("async", 2, MIB), probe("create", 3, 2 * MIB, 0)] == [REFUSED] * 3
        probe.process.kill()
        said = probe.process.stderr.read() if probe.process.stderr else ""
    assert said.count("kerf:") == 1
    assert str(box.path) in said


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    data = bytearray(box.path.read_bytes())
    wire.RECORDS["header"].write(data, 0, abi=wire.LEDGER_ABI + 1)
    box.path.write_bytes(data)
    with box.probe() as probe:
        assert probe("alloc", 1, MIB) == REFUSED


@pytest.mark.parametrize(("setting", "words"), [(None, "is not set"), ("", "is empty")])
def test_where_no_ledger_is_named_memory_is_refused_and_said_once(
    tmp_path: Path, setting: str | None, words: str
) -> None:
    box = Box(tmp_path, limits(64), settings={"KERF_LEDGER": setting})
    with box.probe() as probe:
        assert [probe("alloc", 1, MIB), probe("async", 2, MIB), probe("create", 3, 2 * MIB, 0)] == [REFUSED] * 3
        probe.process.kill()
        said = probe.process.stderr.read() if probe.process.stderr else ""
    assert said == (
        f"kerf: KERF_LEDGER {words} and /usr/local/kerf/ledger does not exist; "
        "this process gets no GPU memory (`kerf ledger create` makes a ledger)\n"
    )


def test_a_process_that_sees_more_cards_than_it_was_granted_hears_why_it_gets_none_of_them(tmp_path: Path) -> None:
    """As a privileged container does: device 0 is another's card."""
    granted = LedgerSpec(cards=(CardLimit(card_uuid(3), 64 * MIB, None, ""),), policy="cap", priority=0)
    box = Box(tmp_path, granted, settings={"FAKE_CARDS": "4"})
    with box.probe(device=0) as probe:
        assert probe("alloc", 1, MIB) == REFUSED
        probe.process.kill()
        said = probe.process.stderr.read() if probe.process.stderr else ""
    assert said == (
        "kerf: 3 of the 4 cards that this process sees are not granted to its container, which gets no memory of them "
        f"(a privileged container sees every card: name yours, such as CUDA_VISIBLE_DEVICES={card_uuid(3)})\n"
    )


def test_a_process_whose_granted_card_is_named_has_it_as_device_0(tmp_path: Path) -> None:
    granted = LedgerSpec(cards=(CardLimit(card_uuid(3), 64 * MIB, None, ""),), policy="cap", priority=0)
    box = Box(tmp_path, granted, settings={"FAKE_CARDS": "4", "CUDA_VISIBLE_DEVICES": card_uuid(3)})
    with box.probe(device=0) as probe:
        assert [probe("alloc", 1, 60 * MIB), probe("alloc", 2, 8 * MIB)] == [OK, REFUSED]
        probe.process.kill()
        assert probe.process.stderr is not None
        assert probe.process.stderr.read() == ""


def test_programs_that_never_touch_cuda_are_left_alone(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))

    done = box.run("/bin/bash", "-c", "umask; trap; echo $0; grep -c libcuda /proc/self/maps; true")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0"
    assert box.view().processes == ()


def test_a_sigkill_at_any_instant_leaks_nothing_and_hangs_nobody(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))

    done = box.run(BUILD / "programs" / "storm", "1000", timeout=170)

    assert done.returncode == 0, done.stdout + done.stderr
    with box.probe() as survivor:
        assert survivor("alloc", 1, 64 * MIB) == OK


def test_64_processes_at_the_limit_get_exactly_the_slice_between_them(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))

    done = box.run(BUILD / "programs" / "race", "64", timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert box.view().cards[0].peak_bytes == 64 * MIB


def test_the_hundred_and_ninth_process_is_refused_and_counted(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))

    done = box.run(BUILD / "programs" / "crowd", str(wire.SLOTS + 1), timeout=120)

    assert done.stdout.split() == [str(wire.SLOTS), "1"], done.stderr
    assert box.view().events["no_slot"] == 1


def test_the_library_exports_its_hooks_and_nothing_else() -> None:
    import re
    import subprocess

    hooks = (LIBRARY.parents[1] / "src" / "driver" / "hooks.def").read_text()
    listed = set(re.findall(r"^(?:CUDA|NVML)_HOOK\((\w+)", hooks, re.MULTILINE)) | {"dlsym", "dlvsym"}
    symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True, capture_output=True, text=True)

    assert {line.split()[2] for line in symbols.stdout.splitlines()} == listed


def test_the_library_loads_on_older_c_libraries() -> None:
    import re
    import subprocess

    symbols = subprocess.run(["objdump", "-T", LIBRARY], check=True, capture_output=True, text=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", symbols)}

    assert max(versions) <= (2, 28)
