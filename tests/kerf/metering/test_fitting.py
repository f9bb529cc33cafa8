"""Records fit into etcd whatever people call things, and nothing of the sums is lost by it."""

import json
from decimal import Decimal

import pytest

from kerf.metering.book import Book
from kerf.metering.charge import Charge
from kerf.metering.use import CardTime, Kind, Use, Who
from kerf.values.engine import Tokens
from kerf.values.usage import HOUR_MS, CounterRow, TokenPrice
from kerf.wire.usage import parse_usage, render_usage

ETCD = 1_500_000
H100 = Kind("nvidia-h100-80gb-hbm3", "NVIDIA H100 80GB HBM3", "owned", "eu-west-1")
LONG = {"plain": "x" * 253, "unicode": "模" * 253, "escaped": "<&>" * 84, "quoted": '"\\' * 126}


@pytest.mark.parametrize("name", LONG)
def test_a_record_fits_with_the_longest_names_and_keeps_every_sum(name: str) -> None:
    book = Book("west", "USD")
    lines = {
        (Who("team", "n" * 63, f"Deployment/{number:05}-{LONG[name]}"[:264], f"{number}{LONG[name]}"[:253]), H100): Use(
            vgpu_us=number + 1, mib_ms=1000, core_ms=1000, cost=10**9
        )
        for number in range(3000)
    }
    book.add(0, Charge(lines, {H100: CardTime(1, 1)}), {H100: 1})
    for (who, _), use in lines.items():
        book.add_tokens(0, who, {who.model: Tokens(use.vgpu_us, 1, 1)})
    book.until_ms = HOUR_MS
    owner, _ = book.records(0)

    assert len(_as_go_writes(render_usage(owner))) < ETCD
    assert parse_usage(render_usage(owner)) == owner
    assert sum(row.vgpu_seconds for row in owner.rows) * 10**6 == sum(use.vgpu_us for use in lines.values())
    assert sum(row.mib_seconds for row in owner.rows) == 3000
    assert sum(row.input for row in owner.tokens) == sum(use.vgpu_us for use in lines.values())
    assert {row.workload for row in owner.rows} >= {"(other)"}


def test_the_cards_record_fits_with_many_engines_models_and_silent_nodes() -> None:
    book = Book("west", "USD")
    book.add(0, Charge({}, {H100: CardTime(1, 1)}), {H100: 1})
    book.counters = tuple(
        CounterRow(f"{number:036}", "2026-11-28T12:00:00Z", LONG["unicode"], 2**40, 2**40, 2**40)
        for number in range(8000)
    )
    price = Decimal("0.123456789012")
    book.prices = tuple(
        TokenPrice(f"{number}{LONG['escaped']}", price, price, price, measured=number % 2 == 0)
        for number in range(3000)
    )
    for number in range(5000):
        book.add_gap(0, f"node gpu-{number}: pods that ended between 12:00 and 13:00 are not known")
    (cards,) = book.records(0)

    assert len(_as_go_writes(render_usage(cards))) < ETCD
    assert parse_usage(render_usage(cards)) == cards
    assert all(each.measured for each in cards.prices)
    assert (len(cards.gaps), cards.gaps[-1]) == (200, "4,801 sentences more of this kind are left out")


def _as_go_writes(document: object) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode().decode("latin-1")
