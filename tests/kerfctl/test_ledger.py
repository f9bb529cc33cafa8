"""`kerf ledger`: words to a ledger file, a ledger file to a table."""

import argparse
import json
from pathlib import Path

import pytest

from kerf.probes.ledger import read_ledger
from kerf.wire.errors import WireError
from kerf.wire.limiter import CardLimit, LedgerSpec
from kerfctl import ledger
from kerfctl.errors import CliError

MIB = 2**20


def kerf(*words: str) -> int:
    parser = argparse.ArgumentParser()
    ledger.add_parser(parser.add_subparsers())
    return ledger.run(parser.parse_args(["ledger", *words]))


def test_the_example_of_the_documentation_makes_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    assert kerf("create", str(path), "--card", "0:memory=8000,cores=30", "--policy", "weight") == 0
    assert read_ledger(path).spec == LedgerSpec(cards=(CardLimit("0", 8000 * MIB, 30),), policy="weight")


def test_several_cards_each_with_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    kerf("create", str(path), "--card", "GPU-a:memory=10", "--card", "GPU-b:cores=5,arbiter=/run/a", "--priority", "1")

    assert read_ledger(path).spec == LedgerSpec(
        cards=(CardLimit("GPU-a", 10 * MIB, None), CardLimit("GPU-b", None, 5, "/run/a")), priority=1
    )


@pytest.mark.parametrize(
    "text", ["0:memory", "0:memory=-1", "0:memory=1,memory=2", "0:size=3", "0:cores=1.5", "0:memory=٣"]
)
def test_a_card_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="--card"):
        ledger.parse_card(text)


def test_show_prints_use_and_slice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger"
    kerf("create", str(path), "--card", "0:memory=8000,cores=30")

    assert kerf("show", str(path)) == 0
    assert "8,000" in capsys.readouterr().out
    assert kerf("show", str(path), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["spec"]["cards"][0]["memory_bytes"], shown["processes"]) == (8000 * MIB, [])


def test_a_file_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="No such file"):
        kerf("show", str(tmp_path / "none"))


def test_an_arbiter_is_made_where_asked(tmp_path: Path) -> None:
    assert kerf("arbiter", str(tmp_path / "card0")) == 0
    assert (tmp_path / "card0").stat().st_size == 12288
