"""What a vendor brings."""

from dataclasses import replace

from kerf.testing.builders import a_card
from kerf.values.fault import Fault, Signal, Verdict
from kerf.values.slicing import ANY_SIZE, NotSliced
from kerf.values.vendor import with_slicing
from kerf.vendors.registry import VENDORS

NVIDIA = VENDORS[0]


def test_every_vendor_has_its_own_inventory():
    other = replace(NVIDIA, name="other", inventory_key="")

    assert [NVIDIA.inventory_key, other.inventory_key] == ["kerf.dev/inventory", "kerf.dev/inventory-other"]


def test_a_card_is_sliced_as_its_own_vendor_says_and_a_strangers_is_not():
    ours, strange = with_slicing((a_card(), a_card(1, vendor="acme")), VENDORS)

    assert ours.slicing == ANY_SIZE
    assert strange.slicing == NotSliced("Kerf knows no vendor acme")


def test_a_fault_that_a_vendor_does_not_list_warns_and_moves_nothing():
    faults = [Fault(0, "GPU-0", code, Signal.EVENT) for code in (13, 79, 9999)]

    assert [NVIDIA.faults.verdict(fault) for fault in faults] == [Verdict.WARN, Verdict.EVICT, Verdict.WARN]
