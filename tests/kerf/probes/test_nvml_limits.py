"""Limits of memory through NVML of r615, with a driver made of Python and the structures of the real pynvml."""

import pytest

from kerf.probes.base import LimitError
from kerf.probes.nvml import NvmlProbe
from kerf.values.device import NO_LIMITS
from tests.kerf.probes.test_nvml import FakeNvml

POD = "/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice"


def a_probe(fake: FakeNvml) -> NvmlProbe:
    probe = NvmlProbe(nvml=fake)  # type: ignore[arg-type]
    probe.cards()
    return probe


@pytest.mark.parametrize("unset", [6, 3], ids=["dmem", "by its own count"])
def test_a_limit_is_one_cards_and_one_cgroups(unset: int):
    fake = FakeNvml(limits={}, unset=unset)
    probe = a_probe(fake)

    assert {card.no_limits for card in probe.known()} == {""}
    assert probe.limits.limit_of("GPU-0", POD) is None
    probe.limits.limit("GPU-0", POD, 8 << 30)

    assert fake.limits == {(0, POD): 8 << 30}
    assert (probe.limits.limit_of("GPU-0", POD), probe.limits.limit_of("GPU-1", POD)) == (8 << 30, None)


def test_the_largest_number_is_no_limit():
    probe = a_probe(FakeNvml(limits={(0, POD): 0xFFFFFFFFFFFFFFFF}))

    assert probe.limits.limit_of("GPU-0", POD) is None


def test_an_older_driver_says_that_it_has_none():
    probe = a_probe(FakeNvml())

    assert {card.no_limits for card in probe.known()} == {NO_LIMITS}
    with pytest.raises(LimitError, match=r"cannot limit the memory of cgroup kubepods-pod1\.slice: NVML error 13"):
        probe.limits.limit("GPU-0", POD, 1)


def test_an_older_pynvml_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(FakeNvml, "c_nvmlGetMemoryLimits_v1_t")

    assert {card.no_limits for card in a_probe(FakeNvml(limits={})).known()} == {
        "this installation's pynvml does not know the call (13.615 and newer do)"
    }


def test_a_tree_that_the_driver_cannot_open_is_named_with_the_fix():
    probe = a_probe(FakeNvml(limits={}, unset=17))

    assert {card.no_limits for card in probe.known()} == {
        "the driver answers: NVML error 17 (the host's /sys/fs/cgroup must be mounted at its place)"
    }


def test_a_plugin_without_the_rights_is_refused_with_the_fix():
    probe = a_probe(FakeNvml(limits={}, broken={"nvmlDeviceSetMemoryLimits_v1": None}, code=4))

    with pytest.raises(LimitError, match="must be root with the rights of an administrator"):
        probe.limits.limit("GPU-0", POD, 1)


def test_a_card_that_cannot_be_read_keeps_none():
    with pytest.raises(LimitError, match="card GPU-7 cannot be read now"):
        a_probe(FakeNvml(limits={})).limits.limit("GPU-7", POD, 1)
