"""`fit` prefers the cheapest slices, and says what it cannot price."""

from decimal import Decimal

from kerf.sizing.fit import offers
from kerf.sizing.request import Ask
from kerf.testing.builders import a_card
from tests.kerf.sizing.models import model

H100 = a_card("GPU-0", model="NVIDIA H100 80GB HBM3", memory_mib=81559)
L40S = a_card("GPU-1", model="NVIDIA L40S", memory_mib=46068)
OTHER = a_card("GPU-2", model="NVIDIA X1", memory_mib=81559)
PRICES = {"NVIDIA H100 80GB HBM3": Decimal(4), "NVIDIA L40S": Decimal(1)}


def test_an_hour_costs_the_larger_share_of_each_card_and_the_cheapest_comes_first() -> None:
    ask = Ask(max_len=8192, concurrency=4, tp=1)

    found, refused = offers(model("qwen3-8b"), ask, [(H100, L40S, OTHER)], PRICES.get)

    l40s, h100, other = found
    assert refused == []
    assert [one.card for one in found] == ["NVIDIA L40S", "NVIDIA H100 80GB HBM3", "NVIDIA X1"]
    assert l40s.price == max(Decimal(l40s.found.slice_mib) / 46068, Decimal(l40s.found.cores) / 100).quantize(
        Decimal("0.0001")
    )
    assert h100.price == (4 * max(Decimal(h100.found.slice_mib) / 81559, Decimal(h100.found.cores) / 100)).quantize(
        Decimal("0.0001")
    )
    assert other.price is None
