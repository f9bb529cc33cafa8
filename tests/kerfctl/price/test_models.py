"""`kerf price models`: the newest prices, LiteLLM's form, and a gateway's usage by key."""

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from kerf.testing.fake_kube import FakeKube
from kerf.values.usage import HOUR_MS, TokenPrice, TokenRow, UsageRecord, hour_of
from kerf.wire.usage import PATH, render_usage
from kerfctl import cluster
from kerfctl.main import main
from tests.kerf.metering.histories import START

PRICE = TokenPrice("m", Decimal("0.25"), Decimal("0.05"), Decimal(1))
OLD = TokenPrice("m", Decimal(9), Decimal(9), Decimal(9))
STALE = TokenPrice("n", Decimal(1), Decimal(1), Decimal(2), measured=False)


@pytest.fixture
def file(tmp_path: Path) -> str:
    tokens = (TokenRow("ns", "Deployment/a", "m", 1_000_000, 0, 1_000_000),)
    records = [
        UsageRecord(START - HOUR_MS, START, currency="USD", prices=(OLD,)),
        UsageRecord(START, START + 5, cluster="west", currency="USD", prices=(PRICE, STALE)),
        UsageRecord(START, START + 5, "team", tokens=tokens),
    ]
    path = tmp_path / "usage.yaml"
    path.write_text(yaml.safe_dump_all([render_usage(record) for record in records]))
    return str(path)


def test_the_newest_prices_are_shown(file: str, capsys) -> None:
    assert main(["price", "models", "--file", file, "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "models": [
            {"model": "m", "input": "0.25", "cached": "0.05", "output": "1", "measured": True},
            {"model": "n", "input": "1", "cached": "1", "output": "2", "measured": False},
        ],
        "currency": "USD",
        "cluster": "west",
    }
    assert main(["price", "models", "--file", file]) == 0
    assert "from before" in capsys.readouterr().out


def test_litellm_gets_both_prices_of_one_token(file: str, capsys) -> None:
    main(["price", "models", "--file", file, "--litellm"])

    first = yaml.safe_load(capsys.readouterr().out)["model_list"][0]
    assert first == {
        "model_name": "m",
        "litellm_params": {
            "model": "hosted_vllm/m",
            "input_cost_per_token": "0.00000025",
            "cache_read_input_token_cost": "0.00000005",
            "output_cost_per_token": "0.000001",
        },
    }


def test_litellm_names_no_currency_so_another_one_than_dollars_is_said(file: str, tmp_path: Path, capsys) -> None:
    main(["price", "models", "--file", file, "--litellm"])
    assert capsys.readouterr().err == ""

    yuan = tmp_path / "yuan.yaml"
    yuan.write_text(Path(file).read_text().replace("USD", "CNY"))
    main(["price", "models", "--file", str(yuan), "--litellm"])

    said = capsys.readouterr()
    assert yaml.safe_load(said.out)["model_list"]
    assert said.err == ("kerf: these prices are in CNY; LiteLLM names no currency, so its budgets are in it too\n")


def usage(tmp_path: Path, *lines: dict[str, object]) -> str:
    path = tmp_path / "usage.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path)


SPAN = ("--since", "2025-11-27", "--until", "2025-11-28")


def test_a_gateways_usage_is_attributed_to_keys_at_the_measured_price(file: str, tmp_path: Path, capsys) -> None:
    lines = (
        {"api_key": "k1", "user": "u", "model": "m", "prompt_tokens": 1_000_000, "completion_tokens": 500_000},
        {"api_key_id": "k2", "upstream_model_name": "m", "usage": {"input_tokens": 0, "output_tokens": 500_000}},
    )
    status = main(["price", "models", "--file", file, "--usage", usage(tmp_path, *lines), *SPAN, "--json"])

    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert [(row["key"], row["user"], row["cost"]) for row in found["rows"]] == [("k1", "u", "0.75"), ("k2", "", "0.5")]
    assert found["difference"] == {"m": 0.0}


def test_where_gateway_and_engines_differ_it_is_said(file: str, tmp_path: Path, capsys) -> None:
    line = {"key": "k", "model": "m", "completion_tokens": 2_400_000}
    status = main(["price", "models", "--file", file, "--usage", usage(tmp_path, line, {"model": "x"}), *SPAN])

    err = capsys.readouterr().err
    assert status == 1
    assert "m: the gateway reports +20.0% beside what the engines measured" in err
    assert "x: no engine of this name has a price" in err


def test_the_engines_tokens_are_those_of_the_whole_span(tmp_path: Path, monkeypatch, capsys) -> None:
    now = hour_of(time.time_ns() // 1_000_000)
    kube = FakeKube()
    tokens = (TokenRow("ns", "Deployment/a", "m", 0, 0, 1_000_000),)
    records = [UsageRecord(now - days * 24 * HOUR_MS, now, "team", tokens=tokens) for days in (1, 5, 9)]
    for record in (*records, UsageRecord(now, now + 5, currency="USD", prices=(PRICE,))):
        kube.patch(f"{PATH}/{record.name}", render_usage(record), "apply")
    monkeypatch.setattr(cluster, "connect_to", lambda args: kube)
    line = {"key": "k", "model": "m", "completion_tokens": 2_000_000}

    assert main(["price", "models", "--usage", usage(tmp_path, line), "--since", "7d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == {"m": 0.0}


def test_every_sign_that_json_allows_in_a_text_is_read(file: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text(
        '\ufeff{"model": "m", "user": "a\u2028b\x85c", "completion_tokens": 1000000}\r\n\r\n', encoding="utf-8"
    )
    main(["price", "models", "--file", file, "--usage", str(path), *SPAN, "--json"])

    assert [row["user"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["a\u2028b\x85c"]


@pytest.mark.parametrize("line", ["{", "[]", '{"model": ""}', '{"model": "m", "prompt_tokens": -1}'])
def test_a_broken_line_is_named(line: str, file: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(f'{{"model": "m"}}\n{line}\n')

    assert main(["price", "models", "--file", file, "--usage", str(path), *SPAN]) == 1
    assert "line 2" in capsys.readouterr().err


def test_no_prices_is_an_error_with_the_fix(tmp_path: Path, capsys) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(yaml.safe_dump(render_usage(UsageRecord(START, START))))

    assert main(["price", "models", "--file", str(path)]) == 1
    assert "is metering on" in capsys.readouterr().err
