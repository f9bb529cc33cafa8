"""Which cards hold a model, and in what order they are offered."""

from decimal import Decimal

from kerf.sizing.estimate import estimate
from kerf.sizing.fit import offers
from kerf.sizing.request import Ask
from kerf.testing.builders import a_card, a_mig_card
from kerf.values.device import Backend, Mode
from tests.kerf.sizing.models import model


def cards(name, mib, count):
    return tuple(a_card(i, model=name, memory_mib=mib) for i in range(count))


def test_the_least_wasteful_offer_comes_first():
    found, refused = offers(
        model("qwen3-8b"), Ask(max_len=8192), [cards("NVIDIA L4", 23_034, 2), cards("NVIDIA T4", 15_360, 1)]
    )

    assert [(offer.card, offer.found.ranks.tp) for offer in found] == [("NVIDIA L4", 1), ("NVIDIA L4", 2)]
    assert found[0].wasted_mib == 23_034 - found[0].found.slice_mib
    assert [one.card for one in refused] == ["NVIDIA T4"]


def test_the_memory_that_the_driver_keeps_is_not_offered():
    """An H100 of 81,559 MiB gives 81,079 with nobody on it (driver 580.159.04)."""
    slice_mib = estimate(model("qwen3-8b"), Ask(max_len=8192, tp=1)).slice_mib
    nodes = [cards("NVIDIA H100 80GB HBM3", slice_mib + spare, 1) for spare in (479, 480)]
    found, refused = offers(model("qwen3-8b"), Ask(max_len=8192, tp=1), nodes)

    assert [offer.card_mib for offer in found] == [slice_mib + 480]
    assert [one.card_mib for one in refused] == [slice_mib + 479]


def test_ranks_of_one_server_are_on_one_node():
    found, _ = offers(model("llama-3.1-70b"), Ask(max_len=8192), [cards("NVIDIA L40S", 46_068, 2)] * 4)

    assert found == []


def test_other_vendors_cards_are_never_offered_as_if_their_needs_were_known():
    """Admission refuses a model on them, and their sizes are not ours."""
    others = (a_card(0, vendor="ascend910b3", model="Ascend910B3", memory_mib=65_536),
              a_card(1, vendor="metaxsgpu", model="MXC500", memory_mib=65_536))  # fmt: skip
    found, refused = offers(model("qwen3-0.6b"), Ask(max_len=4096), [others])

    assert found == []
    assert {(one.card, one.reason) for one in refused} == {
        (name, "what a model needs is known for nvidia's cards alone") for name in ("Ascend910B3", "MXC500")
    }


def test_a_card_in_mig_mode_gives_an_instance_and_costs_what_that_has():
    whole, mig = a_card(0, model="NVIDIA H100 80GB HBM3", memory_mib=81_559), a_mig_card()
    found, refused = offers(
        model("qwen3-0.6b"), Ask(max_len=4096), [(whole, whole), (mig, mig)], lambda _: Decimal(100)
    )

    assert refused == []
    assert [(one.card_mib, one.size.name, one.size.memory_mib, one.found.ranks.tp, one.price) for one in found] == [
        (81_559, "", 2_994, 1, Decimal(10)),
        (81_152, "1g.10gb", 9_984, 1, (Decimal(100) * 9_984 / 81_152).quantize(Decimal("0.0001"))),
        (81_559, "", 2_523, 2, Decimal(20)),
    ]
    two, refused = offers(model("qwen3-0.6b"), Ask(max_len=4096, tp=2), [(mig, mig)])
    assert (two, refused[0].reason) == ([], "a server shares one card in mode mig, not 2")


def test_cards_with_an_mps_daemon_each_are_shared_one_by_one_and_taken_whole_together():
    both = estimate(model("qwen3-8b"), Ask(max_len=4096, tp=2)).slice_mib
    cards = tuple(
        a_card(i, model="NVIDIA L40S", memory_mib=both + 100, mode=Mode.MPS, backend=Backend.MPS, joint=False)
        for i in range(2)
    )
    shared, _ = offers(model("qwen3-0.6b"), Ask(max_len=4096), [cards])
    whole, _ = offers(model("qwen3-8b"), Ask(max_len=4096), [cards])

    assert [one.found.ranks.tp for one in shared] == [1]
    assert [(one.found.ranks.tp, one.found.cores) for one in whole] == [(2, 100)]
