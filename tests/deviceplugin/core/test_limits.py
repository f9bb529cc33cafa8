"""Which cards' drivers keep limits of memory, and how large a pod's limits are."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.core.limits import Kept, kept, pod_limits
from kerf.testing.builders import H100_MIB, a_card
from kerf.values.ask import Stage
from kerf.values.device import NO_LIMITS, Backend, Mode
from kerf.values.grant import ContainerGrant, Grant, Holding, Slice
from kerf.values.policy import DriverLimits
from kerf.values.units import MIB

ABLE = a_card(id="GPU-0", no_limits="")
OLD = a_card(id="GPU-0")


def holding(*containers: tuple[str, Stage, int]) -> Holding:
    grant = Grant(tuple(ContainerGrant(name, (Slice("GPU-0", "nvidia", mib, 10),)) for name, _, mib in containers))
    return Holding("default/p", "u", "", grant, tuple((name, stage) for name, stage, _ in containers))


@pytest.mark.parametrize(
    ("before", "after"), [(Backend.PRELOAD, "native"), (Backend.OBSERVE, "native"), (Backend.MPS, "native-mps")]
)
def test_a_driver_that_keeps_limits_is_the_stronger_back_end(before: Backend, after: str):
    assert kept(ABLE, before, DriverLimits.AUTO, "") == Kept(Backend(after))


def test_a_pool_that_does_not_ask_gets_what_it_had():
    assert kept(ABLE, Backend.PRELOAD, DriverLimits.NEVER, "") == Kept(Backend.PRELOAD)


def test_without_them_auto_says_why_and_require_gives_no_slices():
    auto, require = (kept(OLD, Backend.PRELOAD, wish, "") for wish in (DriverLimits.AUTO, DriverLimits.REQUIRE))

    note = f"its pool asks for driverLimits auto, and they cannot be had: {NO_LIMITS}"
    assert auto == Kept(Backend.PRELOAD, note)
    assert require.backend is Backend.PRELOAD
    assert require.problem == f"its pool asks for driverLimits require: {NO_LIMITS}"


def test_a_driver_that_did_not_keep_one_counts_as_without():
    assert kept(ABLE, Backend.MPS, DriverLimits.AUTO, "it said no").backend is Backend.MPS


def test_a_card_in_mig_mode_is_kept_by_the_hardware_whatever_the_pool_asks():
    mig = replace(ABLE, mode=Mode.MIG)

    assert kept(mig, Backend.MIG, DriverLimits.REQUIRE, "no") == Kept(Backend.MIG)


def test_the_limit_is_what_a_pod_holds_at_once():
    cards = {"GPU-0": replace(ABLE, backend=Backend.NATIVE)}
    pod = holding(("init", Stage.INIT, 9000), ("sidecar", Stage.SIDECAR, 500), ("main", Stage.APP, 6000))

    assert pod_limits(pod, cards) == {"GPU-0": 9000 * MIB}


@pytest.mark.parametrize(
    ("mib", "backend"), [(H100_MIB, Backend.NATIVE), (100, Backend.PRELOAD), (100, Backend.UNSAID)]
)
def test_a_whole_card_and_a_card_whose_driver_keeps_none_have_no_limit(mib: int, backend: Backend):
    assert pod_limits(holding(("main", Stage.APP, mib)), {"GPU-0": replace(ABLE, backend=backend)}) == {}


def test_another_plugins_card_is_none_of_ours():
    assert pod_limits(holding(("main", Stage.APP, 100)), {}) == {}


@given(sizes=st.lists(st.integers(1, H100_MIB), min_size=1, max_size=4), backend=st.sampled_from(Backend))
def test_no_limit_is_below_a_containers_slice_or_reaches_the_cards_memory(sizes: list[int], backend: Backend):
    pod = holding(*((f"c{i}", Stage.APP, mib) for i, mib in enumerate(sizes)))

    found = pod_limits(pod, {"GPU-0": replace(ABLE, backend=backend)})

    assert all(max(sizes) * MIB <= limit < H100_MIB * MIB for limit in found.values())
    assert bool(found) == (backend.native and sum(sizes) < H100_MIB)
