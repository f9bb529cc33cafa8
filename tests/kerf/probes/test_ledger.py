"""Ledger files on disk: whole or not there, writable for every user in the container."""

import stat
from pathlib import Path

import pytest

from kerf.probes.ledger import create_arbiter, create_ledger, read_ledger
from kerf.wire.errors import WireError
from kerf.wire.limiter import CardLimit, LedgerSpec

SPEC = LedgerSpec(cards=(CardLimit("GPU-a", 8000 * 2**20, 30),), policy="weight", priority=1)


def test_a_ledger_that_was_made_is_read_back(tmp_path: Path) -> None:
    create_ledger(tmp_path / "ledger", SPEC)

    assert read_ledger(tmp_path / "ledger").spec == SPEC
    assert stat.S_IMODE((tmp_path / "ledger").stat().st_mode) == 0o666
    assert [file.name for file in tmp_path.iterdir()] == ["ledger"]


def test_a_bad_spec_leaves_the_old_ledger_alone(tmp_path: Path) -> None:
    create_ledger(tmp_path / "ledger", SPEC)

    with pytest.raises(WireError):
        create_ledger(tmp_path / "ledger", LedgerSpec(cards=()))

    assert read_ledger(tmp_path / "ledger").spec == SPEC


def test_a_folder_that_is_not_there_is_an_oserror_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        create_ledger(tmp_path / "none" / "ledger", SPEC)


def test_an_arbiter_in_use_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "arbiter"
    create_arbiter(path)
    first = path.stat().st_ino
    create_arbiter(path)

    assert path.stat().st_ino == first
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (12288, 0o666)
    assert [file.name for file in tmp_path.iterdir()] == ["arbiter"]
