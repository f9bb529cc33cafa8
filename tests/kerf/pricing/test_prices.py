"""The price list: look-up by model, supply and region, its document, and the shipped file."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.config.prices import PriceFile, read_prices
from kerf.pricing.document import parse_prices
from kerf.pricing.prices import Price, PriceList, PriceRow, SpeedRow
from kerf.values.supply import Supply
from kerf.wire.errors import WireError


def a_row(model: str, per_hour: str, supply: Supply = Supply.RENTED, region: str = "") -> PriceRow:
    return PriceRow(model, supply, Decimal(per_hour), "a page", "2026-11-27", region)


LIST = PriceList(
    prices=(
        a_row("NVIDIA A100-SXM4-80GB", "1.50", Supply.OWNED),
        a_row("NVIDIA A100-SXM4-80GB", "1.79"),
        a_row("A100", "1.20"),
        a_row("NVIDIA A100-SXM4-80GB", "3.43", region="us-east-1"),
        a_row("NVIDIA L40S", "1.86"),
        a_row("NVIDIA L4", "0.80"),
    ),
    speeds=(SpeedRow("NVIDIA A100-SXM4-80GB", 0.6, "a page", "2026-11-27"),),
)


@pytest.mark.parametrize(
    ("model", "supply", "region", "cost"),
    [
        ("NVIDIA A100-SXM4-80GB", "owned", None, "1.50"),
        ("NVIDIA A100-SXM4-80GB", "rented", None, "1.79"),
        ("NVIDIA-A100-SXM4-80GB", "rented", None, "1.79"),  # as feature discovery writes it
        ("NVIDIA A100-SXM4-80GB", "rented", "us-east-1", "3.43"),
        ("NVIDIA A100-SXM4-80GB", "rented", "eu-west-1", "1.79"),
        ("NVIDIA A100-PCIE-40GB", "rented", None, "1.20"),  # a part of the name
        ("NVIDIA L4", "rented", None, "0.80"),
        ("NVIDIA L40S", "owned", None, "1.86"),  # no owned row: what renting it would cost
    ],
)
def test_the_row_that_says_most_of_a_card_is_its_price(model: str, supply: str, region: str | None, cost: str) -> None:
    found = LIST.of(model, supply, region)

    assert found is not None
    assert found.per_hour == Decimal(cost)


def test_a_price_says_where_it_is_from() -> None:
    assert LIST.of("NVIDIA A100-SXM4-80GB", "rented", "us-east-1") == Price(
        Decimal("3.43"), "USD", 0.6, "rented", "us-east-1", "a page", "2026-11-27"
    )


@pytest.mark.parametrize("model", ["MI300X", "NVIDIA A10", "NVIDIA H100 80GB HBM3", ""])
def test_a_card_that_no_row_means_has_no_price(model: str) -> None:
    assert LIST.of(model) is None
    assert LIST.throughput(model) == 1.0


def test_the_shipped_list_is_whole() -> None:
    shipped = read_prices(None)
    price = shipped.of("NVIDIA H100 80GB HBM3", "rented")

    assert price is not None
    assert (price.per_hour, price.throughput) == (Decimal("3.99"), 1.0)
    assert {row.model for row in shipped.prices} <= {row.model for row in shipped.speeds}
    assert all(shipped.of(row.model, row.supply, row.region or None).per_hour == row.per_hour for row in shipped.prices)
    for name in ("H100", "H200", "A100", "L40S", "L4", "T4", "NVIDIA A10G", "Tesla-V100-SXM2-16GB"):
        assert shipped.of(name) is not None, name


def a_document(**changes: Any) -> dict[str, Any]:
    row = {"model": "H100", "supply": "owned", "perHour": "1.5", "source": "me", "date": "2026-01-01", **changes}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "PriceList", "spec": {"currency": "EUR", "prices": [row]}}


def test_amounts_are_read_as_they_are_written() -> None:
    for written in ("1.5", 1.5, "1.500000"):
        assert parse_prices(a_document(perHour=written)).prices[0].per_hour == Decimal("1.5")
    assert parse_prices(yaml.safe_load(yaml.safe_dump(a_document()))).currency == "EUR"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"perHour": "1.2345678"}, "spec.prices[0].perHour: '1.2345678': write an amount"),
        ({"perHour": "-1"}, "spec.prices[0].perHour"),
        ({"perHour": True}, "spec.prices[0].perHour"),
        ({"perHour": "NaN"}, "spec.prices[0].perHour"),
        ({"perHour": 1e9}, "spec.prices[0].perHour"),
        ({"supply": "spot"}, "use one of owned, rented"),
        ({"date": "yesterday"}, "write the day on which it was read"),
        ({"source": ""}, "spec.prices[0].source"),
        ({"cost": 1}, "spec.prices[0].cost: '1': unknown key"),
        ({"model": None}, "spec.prices[0].model"),
    ],
)
def test_a_wrong_row_is_refused_with_its_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_prices(a_document(**changes))
    assert words in str(caught.value)


def test_two_rows_for_one_thing_are_refused() -> None:
    document = a_document()
    document["spec"]["prices"] *= 2

    with pytest.raises(WireError, match="H100, owned': write one row for it"):
        parse_prices(document)


def test_a_file_is_read_again_and_a_broken_version_is_reported_once(tmp_path: Path) -> None:
    path, said = tmp_path / "prices.yaml", []
    path.write_text(yaml.safe_dump(a_document()))
    file = PriceFile(str(path))
    path.write_text(yaml.safe_dump(a_document(perHour="2")))
    file.reload(said.append)
    assert file.prices.of("H100").per_hour == Decimal(2)

    path.write_text("kind: [")
    file.reload(said.append)
    file.reload(said.append)
    assert file.prices.of("H100").per_hour == Decimal(2)
    assert len(said) == 1
    assert "prices.yaml" in said[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="name a readable file"):
        read_prices(str(tmp_path / "none.yaml"))
