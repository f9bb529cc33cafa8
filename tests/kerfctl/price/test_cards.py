"""`kerf price cards`."""

import json

from kerfctl.main import main


def test_the_price_of_one_card_has_its_source(capsys) -> None:
    assert main(["price", "cards", "H100", "--supply", "rented", "--json"]) == 0

    (found,) = json.loads(capsys.readouterr().out)["cards"]
    assert (found["per_hour"], found["throughput"], found["date"]) == ("3.99", 1.0, "2026-11-09")
    assert found["source"].startswith("https://")


def test_the_whole_list_is_a_table(capsys) -> None:
    assert main(["price", "cards"]) == 0

    out = capsys.readouterr().out
    assert "NVIDIA H200" in out
    assert "us-east-1" in out


def test_the_list_is_cut_by_supply_and_region(capsys) -> None:
    for words, key, value in (
        (("--supply", "owned"), "supply", "owned"),
        (("--region", "us-east-1"), "region", "us-east-1"),
    ):
        assert main(["price", "cards", *words, "--json"]) == 0
        assert {card[key] for card in json.loads(capsys.readouterr().out)["cards"]} == {value}


def test_a_card_without_a_price_is_an_error_with_the_fix(capsys) -> None:
    assert main(["price", "cards", "Abacus"]) == 1
    assert "add one and name it by --prices FILE" in capsys.readouterr().err


def test_price_alone_shows_the_list(capsys) -> None:
    assert main(["price"]) == 0
    alone = capsys.readouterr().out
    assert main(["price", "cards"]) == 0
    assert alone == capsys.readouterr().out
