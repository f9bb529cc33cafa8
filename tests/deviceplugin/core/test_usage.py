"""Whose a process is, and what counts as use past the limiter."""

import pytest

from deviceplugin.core.usage import CardSample, ContainerRef, Overuse, lasting, overuses, parse_cgroup, sum_up
from kerf.values.units import MIB

UID = "0d2a6c1e-1111-2222-3333-444455556666"
ID = "ab" * 32
MAIN = ContainerRef(UID, "main")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"0::/kubepods/burstable/pod{UID}/{ID}\n", (UID, ID), id="cgroupfs, version 2"),
        pytest.param(f"12:pids:/x\n4:cpu:/kubepods/pod{UID}/{ID}\n", (UID, ID), id="cgroupfs, version 1"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
            (UID, ID),
            id="systemd",
        ),
        pytest.param(f"0::/system.slice/docker-{ID}.scope", None, id="a container outside of pods"),
        pytest.param("0::/user.slice/session-1.scope", None, id="a shell on the host"),
        pytest.param("", None, id="a process that is gone"),
    ],
)
def test_a_process_belongs_to_the_container_its_cgroup_names(text: str, expected: object):
    assert parse_cgroup(text) == expected


def test_processes_add_up_by_container_and_card():
    uses = [(MAIN, "a", 10, 5), (MAIN, "a", 20, 6), (MAIN, "b", 1, 0)]

    assert sum_up(uses) == (CardSample(MAIN, "a", 30, 11), CardSample(MAIN, "b", 1, 0))


@pytest.mark.parametrize(
    ("used", "granted", "expected"),
    [
        pytest.param(8_500, 8_000, None, id="within the tolerance"),
        pytest.param(8_513, 8_000, "uses 8,513 MiB of card a past the limiter: 8,000 MiB granted", id="beyond it"),
        pytest.param(1, 0, "uses 1 MiB of card a, which it was not granted", id="a card of others"),
        pytest.param(99_999, None, None, id="a slice without a limit"),
    ],
)
def test_overuse_is_what_exceeds_the_grant_and_the_tolerance(used: int, granted: int | None, expected: str | None):
    limits = {MAIN: {"a": None if granted is None else granted * MIB}} if granted != 0 else {}

    found = overuses([CardSample(MAIN, "a", used * MIB, 0)], limits, 512 * MIB)

    assert [f"container main {expected}"] * (expected is not None) == [overuse.sentence for overuse in found]


def test_an_overuse_that_ends_starts_over():
    use = Overuse(MAIN, "a", 2, 1)

    first = lasting([use], {}, 10.0)

    assert (first, lasting([use], first, 12.0)) == ({(MAIN, "a"): 10.0}, {(MAIN, "a"): 10.0})
    assert lasting([use], lasting([], first, 13.0), 14.0) == {(MAIN, "a"): 14.0}
