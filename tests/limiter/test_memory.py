"""Every kind of allocation at the limit: refused one byte above it, given back when freed."""

import subprocess
from pathlib import Path
from threading import Thread

import pytest

from tests.limiter.harness import MIB, OOM, Box, Probe, eventually, limits

OK = "0 ok"
REFUSED = f"{OOM} ok"  # "ok": the caller's pointer is untouched

# verb, its numbers for a slice of `size` bytes, and how to free it
KINDS = {
    "alloc": (lambda size: (size,), "free"),
    "managed": (lambda size: (size,), "free"),
    "pitch": (lambda size: (size // 64, 64), "free"),
    "async": (lambda size: (size, 0), "freeasync"),
    "async_ptsz": (lambda size: (size,), "freeasync"),
    "create": (lambda size: (size, 0), "release"),
    "array": (lambda size: (size // 4 // 1024, 1024), "freearray"),
    "array3d": (lambda size: (size // 4 // 64, 8, 8), "freearray"),
}


@pytest.mark.parametrize("verb", KINDS)
def test_a_slice_is_had_whole_and_not_a_byte_more(tmp_path: Path, verb: str) -> None:
    box = Box(tmp_path, limits(64))
    numbers, free = KINDS[verb]
    with box.probe() as probe:
        assert probe(verb, 1, *numbers(64 * MIB)) == OK
        assert box.charged() == 64 * MIB
        assert probe("alloc", 2, 1) == REFUSED
        assert probe("info") == f"0 0 {64 * MIB}"
        assert probe(free, 1) == OK
        assert probe("alloc", 3, 64 * MIB) == OK
        assert probe("real", 0) == str(box.charged()) == str(64 * MIB)


@pytest.mark.parametrize("verb", KINDS)
def test_more_than_the_slice_is_refused_and_leaves_the_pointer_alone(tmp_path: Path, verb: str) -> None:
    box = Box(tmp_path, limits(64))
    numbers, _ = KINDS[verb]
    with box.probe() as probe:
        assert probe(verb, 1, *numbers(66 * MIB)) == REFUSED
        assert box.charged() == 0
        assert probe("real", 0) == "0"


@pytest.mark.parametrize("verb", ["alloc", "managed", "pitch", "create", "array", "array3d"])
def test_what_the_driver_refuses_is_not_charged(tmp_path: Path, verb: str) -> None:
    box = Box(tmp_path, limits(64))
    numbers, _ = KINDS[verb]
    with box.probe() as probe:
        probe("failnext", 1, 719)
        assert probe(verb, 1, *numbers(8 * MIB)) == "719 ok"
        assert box.charged() == 0


def test_small_blocks_count_by_512_bytes_and_large_ones_by_2_mib(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("alloc", 1, 1)
        probe("alloc", 2, 3 * MIB)

    assert box.charged() == 512 + 4 * MIB


def test_mipmapped_arrays_count_every_level_and_sparse_ones_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        assert probe("sparse", 1, 1024, 1024, 8) == OK
        assert box.charged() == 0
        # 4 B x (1024 x 1024 + 512 x 512 + 256 x 256) = 5.25 MiB, in pages of 2 MiB
        assert probe("mip", 2, 1024, 1024, 0) == OK
        assert box.charged() == 6 * MIB
        assert probe("freemip", 2) == OK
        assert box.charged() == 0


def test_physical_memory_stays_charged_until_its_last_handle_and_mapping_are_gone(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("create", 1, 32 * MIB, 0)
        probe("map", 2, 1, 32 * MIB)
        probe("release", 1)
        assert box.charged() == 32 * MIB  # hidden from a count of handles, not from us
        probe("retain", 3, 2)
        probe("unmap", 2, 32 * MIB)
        assert box.charged() == 32 * MIB
        probe("release", 3)
        assert box.charged() == 0
        assert probe("real", 0) == "0"


def test_host_memory_made_with_cumemcreate_is_free_of_charge(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        assert probe("hostcreate", 1, 128 * MIB) == OK
        assert box.charged() == 0


def test_a_pool_is_charged_for_what_it_holds_and_shrinks_when_others_need_it(tmp_path: Path) -> None:
    """The charges settle: a look at the overhead between a step of the driver and its charge counts the step twice."""
    box = Box(tmp_path, limits(64), settings={"FAKE_POOL_MIB": "32"})
    with box.probe() as probe:
        assert probe("pool", 1, 0) == OK
        assert probe("frompool", 2, 4 * MIB, 1) == OK
        eventually(lambda: box.charged() == 32 * MIB)  # the driver took a whole step
        assert probe("freeasync", 2) == OK
        eventually(lambda: box.charged() == 32 * MIB)  # and keeps it
        assert probe("alloc", 3, 64 * MIB) == OK  # until it is needed elsewhere
        eventually(lambda: box.charged() == 64 * MIB)
        assert probe("frompool", 4, 4 * MIB, 1) == REFUSED
        eventually(lambda: box.charged() == 64 * MIB)


def test_a_pool_that_grows_past_the_slice_is_undone(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(40), settings={"FAKE_POOL_MIB": "32"})
    with box.probe() as probe:
        assert probe("async", 1, 30 * MIB) == OK
        assert probe("async", 2, 8 * MIB) == REFUSED  # fits by size, but the driver would take 32 MiB more
        assert box.charged() == 32 * MIB
        assert probe("real", 0) == str(32 * MIB)


def test_blocks_that_outlive_their_pool_stay_charged(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("pool", 1, 0)
        probe("frompool", 2, 8 * MIB, 1)
        assert probe("destroypool", 1) == OK
        assert box.charged() == 8 * MIB
        assert probe("free", 2) == OK
        assert box.charged() == 0


def test_an_async_block_may_be_freed_plainly_and_the_other_way_round(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("async", 1, 8 * MIB, 0)
        probe("alloc", 2, 8 * MIB)
        assert probe("free", 1) == OK
        assert probe("freeasync", 2) == OK
        assert probe("alloc", 3, 64 * MIB) == OK


@pytest.mark.parametrize("verb", ["graph", "capture"])
def test_graph_memory_is_charged_when_launched(tmp_path: Path, verb: str) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("stream", 1)
        assert probe(verb, 1, 48 * MIB) == OK
        assert box.charged() == 0  # a graph that never ran holds nothing
        assert probe("launchgraph", 1) == OK
        assert box.charged() == 48 * MIB
        assert probe("launchgraph", 1) == OK  # again: it has its memory
        assert probe("alloc", 2, 32 * MIB) == REFUSED
        assert probe("graph", 3, 32 * MIB) == OK
        assert probe("launchgraph", 3) == REFUSED
        assert probe("real", 0) == str(48 * MIB)


def test_freed_graph_memory_is_reused_and_given_back_by_a_trim(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("graph", 1, 48 * MIB)
        probe("graph", 2, 48 * MIB)
        assert probe("launchgraph", 1) == OK
        assert probe("free", 2048 + 1) == OK
        assert box.charged() == 48 * MIB  # the driver keeps it for the next graph
        assert probe("launchgraph", 2) == OK
        assert box.charged() == 48 * MIB
        assert probe("free", 2048 + 2) == OK
        assert probe("graphtrim", 0) == OK
        assert (box.charged(), probe("real", 0)) == (0, "0")


@pytest.mark.parametrize("verb", ["graph", "capture"])
def test_graphs_share_the_slice_with_the_context_even_when_nothing_else_asked_for_memory(
    tmp_path: Path, verb: str
) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24"})
    with box.probe() as probe:
        probe("stream", 1)
        assert probe(verb, 1, 40 * MIB) == OK
        assert probe("launchgraph", 1) == OK
        assert probe(verb, 2, 2 * MIB) == OK
        assert probe("launchgraph", 2) == REFUSED
        assert probe("real", 0) == str(box.charged()) == str(64 * MIB)


def test_a_graph_is_what_first_asks_for_memory_in_a_context_of_its_own(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24"})
    with box.probe(init=False) as probe:
        assert probe("create_context", 0) == "0"
        probe("graph", 1, 40 * MIB)
        probe("graph", 2, 2 * MIB)
        assert probe("launchgraph", 1) == OK
        assert probe("launchgraph", 2) == REFUSED
        assert probe("real", 0) == str(box.charged()) == str(64 * MIB)


def test_graph_memory_that_the_driver_takes_in_large_steps_stays_within_the_slice(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(100), settings={"FAKE_GRAPH_MIB": "32"})
    with box.probe() as probe:
        for graph, (mib, answer, held_mib) in enumerate(
            [(34, OK, 64), (8, OK, 64), (24, OK, 96), (24, OK, 96), (8, REFUSED, 96), (6, OK, 96)]
        ):
            probe("graph", graph, mib * MIB)
            assert probe("launchgraph", graph) == answer
            assert probe("real", 0) == str(box.charged()) == str(held_mib * MIB)


def test_odd_calls_get_the_drivers_own_answers(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        assert probe("nullalloc", MIB) == "1"
        assert probe("nullalloc", 2**62) == "1"
        assert probe("nullinfo") == "1"
        assert probe("zero") == "1"
        assert probe("alloc", 1, 2**63) == REFUSED
        assert probe("pitch", 1, 2**63, 4) == REFUSED
        assert probe("pitch", 1, 2**40, 2**40) == REFUSED
        assert probe("free", 9) == OK  # freeing nothing is allowed
        probe("alloc", 1, MIB)
        assert probe("free", 1) == OK
        assert probe("free", 1) == "1 ok"
        assert box.charged() == 0


def test_context_memory_is_charged_as_overhead(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24"})
    with box.probe() as probe:
        assert probe("info") == f"0 {40 * MIB} {64 * MIB}"
        assert probe("alloc", 1, 42 * MIB) == REFUSED
        assert probe("alloc", 1, 40 * MIB) == OK
        (process,) = box.view().processes
    assert process.bytes_by_kind == {"device": 40 * MIB, "overhead": 24 * MIB}


def test_a_context_is_charged_even_when_its_process_never_asks_for_memory(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24"})
    with box.probe(), box.probe() as second:
        eventually(lambda: box.charged() == 48 * MIB)
        assert second("alloc", 1, 18 * MIB) == REFUSED
        assert second("alloc", 1, 16 * MIB) == OK


def test_overhead_does_not_sink_while_an_allocation_waits_inside_the_driver(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24", "FAKE_STALL_MS": "4000"})
    overheads = set()
    with box.probe() as probe:
        assert probe("info") == f"0 {40 * MIB} {64 * MIB}"
        waiting = Thread(target=probe, args=("alloc", 1, 32 * MIB))
        waiting.start()
        while waiting.is_alive():
            (process,) = box.view().processes
            overheads.add(process.bytes_by_kind["overhead"])
            waiting.join(0.02)
        assert probe("real", 0) == str(box.charged()) == str(56 * MIB)
    assert overheads == {24 * MIB}


def test_memory_that_the_driver_takes_beyond_what_was_asked_is_not_charged_as_overhead_too(tmp_path: Path) -> None:
    """The library looks at NVML while the call is under way, which takes longer than the pause between its looks."""
    steps = {"FAKE_GRAPH_MIB": "32", "FAKE_POOL_MIB": "32", "FAKE_LINGER_MS": "1500"}
    box = Box(tmp_path, limits(128), settings=steps)
    with box.probe() as probe:
        probe("graph", 1, 34 * MIB)
        assert probe("launchgraph", 1) == OK
        assert probe("real", 0) == str(box.charged()) == str(64 * MIB)
        assert probe("async", 2, 34 * MIB, 0) == OK
        assert probe("real", 0) == str(box.charged()) == str(128 * MIB)


def test_where_nvml_does_not_tell_overhead_is_reported_as_not_counted(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CONTEXT_MIB": "24", "FAKE_NO_NVML_PIDS": "1"})
    with box.probe() as probe:
        assert probe("alloc", 1, 64 * MIB) == OK

    assert box.view().events == {"no_overhead": 1}


def test_resetting_the_context_gives_everything_back(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as probe:
        probe("alloc", 1, 8 * MIB)
        probe("array", 2, 1024, 1024)
        assert probe("reset") == "0"
        assert box.charged() == 0


def test_the_card_looks_as_big_as_the_slice(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(1000))
    with box.probe() as probe:
        probe("alloc", 1, 100 * MIB)

        assert probe("total", 0) == f"0 {1000 * MIB}"
        assert probe("info") == f"0 {900 * MIB} {1000 * MIB}"
        assert probe("info_v1") == f"0 {900 * MIB} {1000 * MIB}"


def test_free_memory_is_never_more_than_the_card_really_has(tmp_path: Path) -> None:
    settings = {"FAKE_MEMORY_MIB": "100"}
    mine, other = Box(tmp_path, limits(80), settings=settings), Box(tmp_path, limits(80), "other", settings)
    with mine.probe() as probe, other.probe() as neighbour:
        assert neighbour("alloc", 1, 60 * MIB) == OK
        assert probe("info") == f"0 {40 * MIB} {80 * MIB}"
        assert probe("alloc", 1, 60 * MIB) == REFUSED  # by the driver
        assert mine.charged() == 0


def test_no_limit_means_the_whole_card(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(None), settings={"FAKE_MEMORY_MIB": "100"})
    with box.probe() as probe:
        assert probe("total", 0) == f"0 {100 * MIB}"
        assert probe("alloc", 1, 100 * MIB) == OK
        assert box.charged() == 100 * MIB


@pytest.mark.parametrize("visible", ["1", "1,0", "0,1"])
def test_cards_are_distinguished_by_uuid_under_cuda_visible_devices(tmp_path: Path, visible: str) -> None:
    box = Box(tmp_path, limits(64, 128), settings={"FAKE_CARDS": "2", "CUDA_VISIBLE_DEVICES": visible})
    first = int(visible.split(",", maxsplit=1)[0])
    with box.probe(device=0) as probe:
        assert probe("total", 0) == f"0 {(64, 128)[first] * MIB}"
        assert probe("alloc", 1, 32 * MIB) == OK
        assert [use.charged_bytes for use in box.view().cards] == [32 * MIB * (card == first) for card in (0, 1)]


def test_vmm_memory_is_charged_where_it_lies_not_where_the_context_is(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64, 128), settings={"FAKE_CARDS": "2"})
    with box.probe(device=0) as probe:
        assert probe("create", 1, 100 * MIB, 1) == OK
        assert (box.charged(0), box.charged(1)) == (0, 100 * MIB)


def test_a_card_the_ledger_does_not_know_gives_no_memory(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64), settings={"FAKE_CARDS": "2"})
    with box.probe(device=1) as probe:
        assert probe("alloc", 1, MIB) == REFUSED
        assert box.view().events == {"unknown_card": 1}


def fill(probe: Probe, size: int) -> int:
    """Allocate blocks of `size` bytes until refused; how many there were."""
    count = 0
    while probe("alloc", count + 1, size) == OK:
        count += 1
    return count


def test_two_containers_have_each_their_slice(tmp_path: Path) -> None:
    mine, other = Box(tmp_path, limits(64)), Box(tmp_path, limits(32), "other")
    with mine.probe() as probe, other.probe() as neighbour:
        assert (fill(probe, 2 * MIB), fill(neighbour, 2 * MIB)) == (32, 16)


def test_a_neighbour_whose_processes_have_the_same_numbers_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    within = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a PID namespace takes root")
    mine, other = (Box(tmp_path, limits(64), name, {"FAKE_CONTEXT_MIB": "8"}, within) for name in ("mine", "other"))
    with mine.probe() as probe, other.probe() as neighbour:
        assert [fill(neighbour, 2 * MIB), fill(probe, 2 * MIB)] == [28, 28]
        assert (mine.charged(), other.charged()) == (64 * MIB, 64 * MIB)


def test_processes_of_one_container_share_its_slice(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(64))
    with box.probe() as one, box.probe() as two:
        assert one("alloc", 1, 40 * MIB) == OK
        assert two("alloc", 1, 40 * MIB) == REFUSED
        assert two("info") == f"0 {24 * MIB} {64 * MIB}"
        assert sorted(use.bytes_by_card for use in box.view().processes) == [(0,), (40 * MIB,)]
