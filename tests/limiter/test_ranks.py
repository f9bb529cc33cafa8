"""Tensor-parallel containers on the same two cards: their collectives wait for each other across cards, and get on."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kerf.wire.limiter import CardLimit, LedgerSpec, render_arbiter
from tests.limiter.harness import BUILD, MIB, Box, card_uuid, eventually

RANKS = BUILD / "programs" / "ranks"
Running = list["subprocess.Popen[str]"]


def start(folder: Path, shares: list[tuple[int, int]], seconds: float) -> list[tuple[Box, Running]]:
    """One container per pair of shares, on cards 0 and 1, with a rank on each."""
    arbiters = [folder / f"arbiter{card}" for card in range(2)]
    for arbiter in arbiters:
        arbiter.write_bytes(render_arbiter())
    containers = []
    for i, share in enumerate(shares):
        limits = tuple(CardLimit(card_uuid(c), 1000 * MIB, share[c], str(arbiters[c])) for c in range(2))
        box = Box(folder, LedgerSpec(limits, policy="weight"), f"ledger{i}", settings={"FAKE_CARDS": "2"})
        command = [[str(RANKS), str(rank), str(i + 1), str(seconds)] for rank in range(2)]
        containers.append(
            (box, [subprocess.Popen(one, env=box.environment, stdout=subprocess.PIPE, text=True) for one in command])
        )
    return containers


def said(process: "subprocess.Popen[str]") -> dict[str, Any]:
    return dict(json.loads(process.communicate(timeout=60)[0]))


@pytest.mark.parametrize("shares", [[(50, 50)], [(50, 50), (50, 50)], [(30, 70), (70, 30)]], ids=str)
def test_every_rank_gets_on(tmp_path: Path, shares: list[tuple[int, int]]) -> None:
    results = [[said(rank) for rank in ranks] for _, ranks in start(tmp_path, shares, 2)]

    assert min(rank["steps"] for ranks in results for rank in ranks) > 100


def test_a_killed_rank_stops_its_own_container_alone(tmp_path: Path) -> None:
    (box, victims), (_, others) = start(tmp_path, [(50, 50), (50, 50)], 3)
    try:
        eventually(lambda: len(box.view().processes) == 2)
        victims[0].kill()
        results = [said(rank) for rank in others]
    finally:
        for rank in victims:
            rank.kill()
            rank.communicate()

    assert min(rank["steps"] for rank in results) > 100
