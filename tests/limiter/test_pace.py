"""Compute limits on the fake card, which slices time between processes as real ones do.

Margins are wider than what the limiter reaches on a quiet machine (half a point): CI machines are not quiet.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from kerf.wire.limiter import LOCAL_MEMBERS, Policy, measured_patch, render_arbiter
from tests.limiter.harness import BUILD, Box, limits

LOAD = BUILD / "programs" / "load"
MS = 1_000_000


@dataclass
class Tenant:
    """A share in percent, and kernels of so many nanoseconds."""

    share: int
    kernel_ns: int = MS
    mode: str = "stream"
    priority: int = 0


def run(
    folder: Path, tenants: list[Tenant], policy: Policy, seconds: float = 2.0, node_wide: bool = True
) -> list[float]:
    """Percent of the card's time each tenant had while all ran."""
    arbiter = folder / "arbiter"
    arbiter.write_bytes(render_arbiter())
    path = str(arbiter) if node_wide else ""
    boxes = [
        Box(folder, limits(1000, cores=t.share, policy=policy, priority=t.priority, arbiter=path), f"ledger{i}")
        for i, t in enumerate(tenants)
    ]
    running = [
        subprocess.Popen(
            [LOAD, str(t.kernel_ns), str(seconds), t.mode], env=box.environment, stdout=subprocess.PIPE, text=True
        )
        for t, box in zip(tenants, boxes, strict=True)
    ]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    return [one["busy_ns"] / one["seconds"] / 1e7 for one in said]


@pytest.mark.parametrize(
    ("cap", "kernel_ns", "mode"),
    [
        (10, 5_000, "stream"),
        (50, MS, "stream"),
        (90, MS, "stream"),
        (50, 5 * MS, "stream"),
        (30, 100_000, "graph"),
        (30, 200_000, "two"),
        (30, 200_000, "captured"),
    ],
)
def test_a_cap_holds_even_alone(tmp_path: Path, cap: int, kernel_ns: int, mode: str) -> None:
    (got,) = run(tmp_path, [Tenant(cap, kernel_ns, mode)], "cap")

    assert got == pytest.approx(cap, abs=6)


@pytest.mark.parametrize("processes", [1, 3])
def test_what_a_cap_lets_a_container_save_up_is_all_it_gets_on_top(tmp_path: Path, processes: int) -> None:
    """Far from the end of its credit nobody looks at a lone container; it must not get more of it for that."""
    box = Box(tmp_path, limits(1000, cores=50))
    command = [LOAD, "20000", "2", "late"]
    running = [
        subprocess.Popen(command, env=box.environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    got = [json.loads(process.communicate(timeout=60)[0]) for process in running]

    saved, seconds = 0.5, max(one["seconds"] for one in got)
    used = sum(one["busy_ns"] for one in got) / 1e9
    assert saved + 0.3 * seconds < used < saved + 0.5 * seconds + 0.08


@pytest.mark.parametrize(
    "tenants",
    [
        [Tenant(30), Tenant(70)],
        [Tenant(30, 5_000), Tenant(70, 1_400_000)],
        [Tenant(20), Tenant(30, 5_000), Tenant(50, 50_000, "graph")],
    ],
    ids=["30/70", "30/70 short and long kernels", "20/30/50"],
)
@pytest.mark.parametrize("policy", ["weight", "cap"])
def test_tenants_have_the_shares_they_were_granted(tmp_path: Path, tenants: list[Tenant], policy: Policy) -> None:
    got = run(tmp_path, tenants, policy, seconds=3)

    parts = [part / sum(got) * 100 for part in got]
    assert parts == pytest.approx([tenant.share for tenant in tenants], abs=5)
    assert sum(got) > 70


def test_weight_gives_idle_time_to_those_who_want_it(tmp_path: Path) -> None:
    (alone,) = run(tmp_path, [Tenant(30)], "weight")

    assert alone > 85


def test_high_priority_goes_first(tmp_path: Path) -> None:
    high, low = run(tmp_path, [Tenant(50, priority=0), Tenant(50, priority=1)], "priority")

    assert high > 80
    assert low < 10


def test_processes_of_one_container_share_its_cap(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(1000, cores=40))
    running = [
        subprocess.Popen([LOAD, str(MS), "2", "stream"], env=box.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    got = [json.loads(process.communicate(timeout=60)[0]) for process in running]

    assert sum(one["busy_ns"] / one["seconds"] / 1e7 for one in got) == pytest.approx(40, abs=6)


def test_processes_beyond_the_arbiters_seats_share_the_cap_too(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(1000, cores=30))
    began = time.monotonic()
    running = [
        subprocess.Popen([LOAD, str(MS), "2", "stream"], env=box.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(LOCAL_MEMBERS + 3)
    ]
    used = sum(json.loads(process.communicate(timeout=60)[0])["busy_ns"] for process in running) / 1e9

    saved = 0.3
    assert used < saved + 0.3 * (time.monotonic() - began) + 0.15
    assert box.view().events == {"no_arbiter": 3}


def test_a_killed_or_stopped_holder_does_not_stop_its_neighbour(tmp_path: Path) -> None:
    arbiter = tmp_path / "arbiter"
    arbiter.write_bytes(render_arbiter())
    boxes = [
        Box(tmp_path, limits(1000, cores=50, policy="weight", arbiter=str(arbiter)), f"ledger{i}") for i in range(2)
    ]
    victim = subprocess.Popen([LOAD, str(MS), "30"], env=boxes[0].environment, stdout=subprocess.DEVNULL)
    neighbour = subprocess.Popen([LOAD, str(MS), "2"], env=boxes[1].environment, stdout=subprocess.PIPE, text=True)
    try:
        neighbour_is_up = boxes[1]
        while not neighbour_is_up.view().processes:
            assert neighbour.poll() is None
        victim.kill()
        said = json.loads(neighbour.communicate(timeout=60)[0])
    finally:
        victim.kill()
        victim.wait()

    assert said["busy_ns"] / said["seconds"] / 1e7 > 60


def test_a_missing_arbiter_is_said_and_counted_and_the_cap_still_holds(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(1000, cores=30, arbiter=str(tmp_path / "none")))

    done = box.run(LOAD, str(MS), "1.5")

    assert "arbiter" in done.stderr
    assert box.view().events == {"no_arbiter": 1}
    assert json.loads(done.stdout)["busy_ns"] / 1.5e7 == pytest.approx(30, abs=6)


def test_nothing_is_counted_as_not_enforced_in_a_healthy_run(tmp_path: Path) -> None:
    box = Box(tmp_path, limits(1000, cores=50))

    box.run(LOAD, str(MS), "1", "captured")

    assert box.view().events == {}
    assert box.view().cards[0].launches > 100


def test_the_agents_measurement_corrects_the_cap(tmp_path: Path) -> None:
    """A neighbour outside Kerf takes every second slice: the agent sees 15 % of the card where 30 were granted."""
    box = Box(tmp_path, limits(1000, cores=30))
    process = subprocess.Popen([LOAD, str(MS), "4"], env=box.environment, stdout=subprocess.PIPE, text=True)
    for _ in range(12):
        time.sleep(0.3)  # the agent's own rhythm, not something awaited
        with box.path.open("r+b") as ledger:
            for offset, data in measured_patch(card=0, permille=150, at_ns=time.monotonic_ns()):
                ledger.seek(offset)
                ledger.write(data)
                ledger.flush()
    said = json.loads(process.communicate(timeout=60)[0])

    assert said["busy_ns"] / said["seconds"] / 1e7 > 36  # it aims higher than its nominal 30
