"""`kerf bill --by key`: what gateways reported, at the price that engines make, beside what engines counted."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerf.metering.attribute import key_bill
from kerf.values.usage import HOUR_MS, ReportedHour, ReportedRow, TokenPrice, TokenRow, UsageRecord
from kerf.wire.gatewayrecords import parse_reported, render_reported
from kerf.wire.usage import moment_text, render_usage
from kerfctl.main import main
from tests.kerf.metering.histories import START

PRICE = TokenPrice("m", Decimal(2), Decimal(1), Decimal(10))
DEARER = TokenPrice("m", Decimal(4), Decimal(2), Decimal(20))
MILLION = 1_000_000
SPAN = ("--since", moment_text(START), "--until", moment_text(START + 2 * HOUR_MS))


def reported(hour: int, gateway: str, *rows: ReportedRow) -> ReportedHour:
    return ReportedHour(START + hour * HOUR_MS, gateway, "s", rows)


def engines(hour: int, *prices: TokenPrice, tokens: tuple[int, int, int] = (0, 0, 0)) -> list[UsageRecord]:
    at = START + hour * HOUR_MS
    row = TokenRow("ns", "Deployment/a", "m", *tokens)
    return [
        UsageRecord(at, at + 5, prices=prices),
        UsageRecord(at, at + 5, "team", tokens=(row,) if any(tokens) else ()),
    ]


@pytest.fixture
def file(tmp_path: Path) -> str:
    """In the first hour half of a million prompt tokens came from the cache; the second hour is twice as dear."""
    records = [
        *engines(0, PRICE, tokens=(MILLION // 2, MILLION // 2, MILLION)),
        *engines(1, DEARER, tokens=(0, 0, MILLION)),
    ]
    hours = [
        reported(0, "east", ReportedRow("k1", "ann", "m", 2, MILLION, 0, MILLION // 2)),
        reported(0, "west", ReportedRow("k2", "", "m", 1, 0, 0, MILLION // 2)),
        reported(1, "east", ReportedRow("k1", "ann", "m", 1, 0, 0, MILLION // 2)),
    ]
    path = tmp_path / "usage.yaml"
    items: list[dict[str, Any]] = [*map(render_usage, records), *map(render_reported, hours)]
    path.write_text(yaml.safe_dump_all(items))
    return str(path)


def test_each_hour_costs_its_own_price_and_the_rest_is_named(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["bill", "--file", file, *SPAN, "--by", "key,model", "--json"])

    said = capsys.readouterr()
    # 1.5 for the mixed prompt + 5 + 10 (dearer) for k1, 5 for k2; half a million of the second hour is in no report.
    assert json.loads(said.out) == {
        "rows": [
            {"gateway": "", "key": "k1", "user": "", "model": "m", "requests": 3, "input": MILLION, "output": MILLION,
             "cost": "16.5"},
            {"gateway": "", "key": "k2", "user": "", "model": "m", "requests": 1, "input": 0, "output": MILLION // 2,
             "cost": "5"},
        ],
        "unreported_cost": {"m": "10"},
        "difference": {"m": -1 / 6},
        "currency": "USD",
    }  # fmt: skip
    assert (status, said.err) == (1, "kerf: m: gateways report -16.7% beside what the engines measured\n")


def test_people_see_a_table_by_gateway_and_user(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["bill", "--file", file, *SPAN, "--by", "gateway,user"])

    out = capsys.readouterr().out
    assert "ann" in out
    assert "10.0000 USD of tokens that no gateway reported" in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--by", "key,tenant"), "--by tenant: gateways report only gateway, key, user, model"),
        (("--by", "key", "--csv"), "--by key: a bill of gateways' reports has neither --csv nor --prices"),
    ],
)
def test_what_gateways_do_not_know_is_named(
    words: tuple[str, ...], error: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bill", "--file", file, *words]) == 1

    assert capsys.readouterr().err.startswith(f"kerf: {error}")


def test_a_model_without_a_price_is_named() -> None:
    found = key_bill([], [reported(0, "g", ReportedRow("k", "", "new", 1, 5, 0, 5))])

    assert (found.unpriced, found.lines[0].cost) == (("new",), Decimal(0))


COUNTS = st.integers(0, 10**9)
ROWS = st.builds(
    ReportedRow, st.sampled_from("ab"), st.sampled_from(["", "u"]), st.just("m"), COUNTS, COUNTS, st.just(0), COUNTS
)


@given(st.lists(st.tuples(st.integers(0, 1), ROWS), max_size=6), st.tuples(COUNTS, COUNTS, COUNTS))
def test_where_engines_counted_all_of_it_reported_and_rest_are_what_engines_priced(
    rows: list[tuple[int, ReportedRow]], more: tuple[int, int, int]
) -> None:
    """Engines counted what was reported, and some more."""
    prompt = sum(row.input for hour, row in rows if hour == 0)
    output = sum(row.output for hour, row in rows if hour == 0)
    truth = (prompt + more[0], more[1], output + more[2])
    hours = [reported(0, f"g{i}", row) for i, (hour, row) in enumerate(rows) if hour == 0]

    found = key_bill(engines(0, PRICE, tokens=truth), hours)

    whole = (PRICE.input * truth[0] + PRICE.cached * truth[1] + PRICE.output * truth[2]) / MILLION
    shown = sum((line.cost for line in found.lines), Decimal(0)) + sum(found.unreported.values(), Decimal(0))
    assert abs(shown - whole) <= Decimal("0.00001")
    assert [parse_reported(render_reported(hour)) for hour in hours] == hours
