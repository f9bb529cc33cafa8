"""`kerf bill`: files, the cluster, the cache, sums, forms, and what it says when something is missing."""

import contextlib
import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.metering.bill import Bill, BillLine
from kerf.metering.book import Book
from kerf.testing.fake_kube import FakeKube
from kerf.values.usage import HOUR_MS
from kerf.wire.usage import PATH, parse_usage, render_usage
from kerfctl import cluster
from kerfctl.bill.cache import Cache
from kerfctl.bill.missing import LATE_MS, Missing, missing_hours
from kerfctl.bill.run import print_bill
from kerfctl.bill.span import parse_time
from kerfctl.errors import CliError
from kerfctl.main import main
from tests.kerf.metering.histories import START, a_card, a_hold

SPAN = ("--since", "2025-11-27", "--until", "2025-11-28")


def records(hours: int = 2, *, closed: bool = False) -> list[dict[str, Any]]:
    """One card of $2; pods a and b hold a quarter of it each, all the time."""
    book = Book("west", "USD")
    cards = {"GPU-0": a_card()}
    book.advance(cards, [], START)
    pods = [a_hold("a", end=hours * HOUR_MS), a_hold("b", end=hours * HOUR_MS)]
    book.advance(cards, pods, START + hours * HOUR_MS)
    return [render_usage(record) for record in book.records(START + 100 * HOUR_MS if closed else 0)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": records()}))
    return str(path)


def run(capsys, *words: str) -> tuple[int, str, str]:
    status = main(["bill", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_json_is_what_machines_expect(file: str, capsys) -> None:
    status, out, _ = run(capsys, "--file", file, *SPAN, "--json")

    row = {
        "tenant": "team",
        "namespace": "ns",
        "workload": "Deployment/a",
        "model": "m",
        "class": "nvidia-h100",
        "cluster": "west",
        "vgpu_seconds": "1800",
        "mib_seconds": "144000000",
        "core_seconds": "0",
        "cost": "1",
    }
    assert (status, json.loads(out)) == (
        0,
        {
            "rows": [row, {**row, "workload": "Deployment/b"}],
            "idle_cost": "2",
            "node_cost": "4",
            "currency": "USD",
        },
    )


def test_sums_are_by_what_is_asked(file: str, capsys) -> None:
    _, out, _ = run(capsys, "--file", file, *SPAN, "--json", "--by", "tenant,class")

    (row,) = json.loads(out)["rows"]
    assert (row["tenant"], row["class"], row["workload"], row["cost"]) == ("team", "nvidia-h100", "", "2")


def test_a_span_counts_the_hours_that_begin_within_it(file: str, capsys) -> None:
    _, out, _ = run(capsys, "--file", file, "--since", "2025-11-27T17:30:00Z", "--until", "2025-11-28", "--json")

    assert json.loads(out)["node_cost"] == "2"


def test_csv_ends_with_what_is_idle(file: str, capsys) -> None:
    _, out, _ = run(capsys, "--file", file, *SPAN, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))

    assert [(row["tenant"], row["workload"], row["cost"]) for row in rows] == [
        ("team", "Deployment/a", "1"),
        ("team", "Deployment/b", "1"),
        ("(idle)", "", "2"),
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "＝1", 'a,"b"\n=c', "名前", "'a"])  # noqa: RUF001
def test_no_name_is_a_formula_in_csv_and_every_amount_is_a_number(name: str, tmp_path: Path, capsys) -> None:
    found = [item for item in records() if item["spec"].get("tenant")]  # without the cards: idle is below zero
    for item in found:
        item["spec"]["rows"][0]["model"] = name
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"items": found, "kind": "List"}))

    _, out, _ = run(capsys, "--file", str(path), *SPAN, "--csv", "--by", "model")
    rows = list(csv.DictReader(io.StringIO(out)))

    assert {row["model"] for row in rows} == {"m", "", name if name[0].isalpha() or name[0] == "'" else f"'{name}"}
    assert sorted(Decimal(row["cost"]) for row in rows) == [-2, 1, 1]


def test_the_table_shows_that_it_adds_up(file: str, capsys) -> None:
    status, out, _ = run(capsys, "--file", file, *SPAN, "--by", "workload")

    assert status == 0
    assert "allocated 2.00 + idle 2.00 = cards 4.00 USD" in out
    assert "Deployment/a" in out


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ("2025-11-27T16:00:00Z", "2025-11-27T18:00:00Z", "2025-11-27T16:00 to 2025-11-27T18:00 UTC"),
        ("2025-11-27T17:30:00Z", "2025-11-27T17:30:00Z", "2025-11-27T17:00 to 2025-11-27T18:00 UTC"),
        ("2025-11-27T16:59:59Z", "2025-11-30T23:59:59Z", "2025-11-27T16:00 to 2025-12-01T00:00 UTC"),
    ],
)
def test_the_heading_names_the_whole_hours_that_are_counted(
    since: str, until: str, hours: str, file: str, capsys
) -> None:
    _, out, _ = run(capsys, "--file", file, "--since", since, "--until", until, "--by", "tenant")

    assert out.splitlines()[0].strip() == f"Bill, {hours}"


@given(st.lists(st.decimals(0, 100, places=6), min_size=1, max_size=4), st.decimals(0, 100, places=6))
def test_the_last_line_adds_up_to_the_cent(costs: list[Decimal], rest: Decimal) -> None:
    lines = tuple(BillLine("", "", str(number), "", "", "", cost=cost) for number, cost in enumerate(costs))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        print_bill(Bill(lines, rest, sum(costs, rest), "USD"), ("workload",), "an hour")

    words = said.getvalue().splitlines()[-1].replace(",", "").split()
    assert Decimal(words[1]) + Decimal(words[4]) == Decimal(words[7])


def test_use_without_the_records_of_its_cards_is_said(tmp_path: Path, capsys) -> None:
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"items": [item for item in records() if item["spec"].get("tenant")], "kind": "List"}))
    status, _, err = run(capsys, "--file", str(path), *SPAN, "--json")

    assert (status, "the records of the cards are not all there" in err) == (1, True)


def test_a_class_without_a_price_is_said_and_ends_with_status_1(file: str, tmp_path: Path, capsys) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("apiVersion: kerf.dev/v1alpha1\nkind: PriceList\nspec: {}\n")
    status, out, err = run(capsys, "--file", file, *SPAN, "--prices", str(prices), "--json")

    assert (status, json.loads(out)["node_cost"]) == (1, "0")
    assert "no row of the price list means nvidia-h100" in err


def test_a_bill_without_any_record_is_said_to_be_none(tmp_path: Path, capsys) -> None:
    (tmp_path / "none.yaml").write_text("kind: List\nitems: []\n")
    status, _, err = run(capsys, "--file", str(tmp_path / "none.yaml"), *SPAN)

    assert status == 1
    assert "is metering on" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "--since yesterday: write a span such as 7d"),
        (("--since", "2025-02-31x"), "--since 2025-02-31x"),
        (("--since", "2025-02-29"), "--since 2025-02-29"),
        (("--since", "9999-01-01"), "--since 9999-01-01: this is still to come"),
        (("--since", "2025-11-31T00:00:00Z"), "--since 2025-11-31T00:00:00Z"),
        (("--by", "tenant,pod"), "--by pod: write some of tenant, namespace"),
        (("--by", ""), "--by ''"),
        (("--since", "1d", "--until", "2d"), "it is before --since"),
    ],
)
def test_wrong_words_are_refused_with_the_fix(words: tuple[str, ...], said: str, file: str, capsys) -> None:
    status, _, err = run(capsys, "--file", file, *words)

    assert status == 1
    assert said in err


def test_spans_are_read_from_now() -> None:
    now = START + 5
    assert parse_time("7d", "--since", now) == now - 7 * 24 * HOUR_MS
    assert parse_time("90m", "--since", now) == now - 90 * 60_000
    assert parse_time("2025-11-27T16:00:00Z", "--since", now) == START
    assert parse_time("2025-11-27T17:00:00+01:00", "--since", now) == START
    assert parse_time("2025-11-27T21:30+05:30", "--since", now) == START
    leap = parse_time("2028-02-29", "--since", now)
    assert parse_time("2028-03-01", "--until", now) == leap + 24 * HOUR_MS
    with pytest.raises(CliError):
        parse_time("7", "--since", now)


class TestCluster:
    """Records from a cluster, with the cache."""

    @pytest.fixture
    def kube(self, monkeypatch) -> FakeKube:
        found = FakeKube({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "cluster-1"}})
        monkeypatch.setattr(cluster, "connect_to", lambda args: found)
        return found

    @pytest.fixture
    def asked(self, kube: FakeKube) -> list[str]:
        found: list[str] = []
        kube.fail = lambda method, path: found.append(path) if path == PATH else None
        return found

    def fill(self, kube: FakeKube, *, closed: bool, hours: int = 8) -> None:
        for item in records(hours, closed=closed):
            kube.patch(f"{PATH}/{item['metadata']['name']}", item, "apply")

    def node_cost(self, capsys, cache: Path) -> Decimal:
        status, out, _ = run(capsys, *SPAN, "--cache", str(cache), "--json")
        assert status == 0
        return Decimal(json.loads(out)["node_cost"])

    def test_a_day_that_is_closed_is_asked_for_once(self, kube, asked, tmp_path: Path, capsys) -> None:
        self.fill(kube, closed=True)

        assert self.node_cost(capsys, tmp_path / "c.sqlite") == 16
        assert self.node_cost(capsys, tmp_path / "c.sqlite") == 16
        assert len(asked) == 1

    def test_a_closed_day_of_which_a_record_cannot_be_read_is_an_error_each_time(self, kube, tmp_path, capsys) -> None:
        self.fill(kube, closed=True)
        first = kube.list(PATH)[0][0]
        kube.put({**first, "spec": {**first["spec"], "hour": "soon"}})

        for _ in range(2):
            status, _, err = run(capsys, *SPAN, "--cache", str(tmp_path / "c.sqlite"), "--json")
            assert (status, f"TenantUsage {first['metadata']['name']} is left out" in err) == (1, True)

    def test_a_day_that_is_open_is_asked_for_again(self, kube, asked, tmp_path: Path, capsys) -> None:
        self.fill(kube, closed=False)

        self.node_cost(capsys, tmp_path / "c.sqlite")
        self.node_cost(capsys, tmp_path / "c.sqlite")
        assert len(asked) == 2

    def test_a_cache_of_garbage_is_made_again(self, kube, tmp_path: Path, capsys) -> None:
        self.fill(kube, closed=True)
        broken = tmp_path / "c.sqlite"
        broken.write_bytes(b"no database" * 1000)

        assert self.node_cost(capsys, broken) == 16

    def test_two_clusters_share_a_file_and_nothing_else(self, tmp_path: Path) -> None:
        one, other = Cache(tmp_path / "c.sqlite", "one"), Cache(tmp_path / "c.sqlite", "other")
        one.put("20251127", [])

        assert (one.complete("20251127"), other.complete("20251127")) == (True, False)

    def test_clusters_that_cannot_be_distinguished_have_no_cache(self, kube, asked, tmp_path: Path, capsys) -> None:
        self.fill(kube, closed=True)
        kube.delete("/api/v1/namespaces/kube-system")

        assert self.node_cost(capsys, tmp_path / "c.sqlite") == 16
        assert self.node_cost(capsys, tmp_path / "c.sqlite") == 16
        assert len(asked) == 2

    def test_a_span_that_is_too_long_is_refused(self, kube, capsys) -> None:
        _, _, err = run(capsys, "--since", "999999w", "--no-cache")
        assert err.endswith(" days; name at most 3700\n")

    def test_a_cluster_without_the_kind_says_what_to_install(self, monkeypatch, tmp_path: Path, capsys) -> None:
        monkeypatch.setattr(cluster, "connect_to", lambda args: FakeKube())
        monkeypatch.setattr(cluster, "list_or_none", lambda *args, **query: None)

        status, _, err = run(capsys, *SPAN, "--no-cache")
        assert status == 1
        assert "install the chart's CRDs" in err


def in_file(tmp_path: Path, name: str, items: list[dict[str, Any]]) -> str:
    path = tmp_path / name
    path.write_text(json.dumps({"kind": "List", "items": items}))
    return str(path)


def test_files_that_overlap_and_copies_under_other_names_count_once(tmp_path: Path, capsys) -> None:
    early, whole = records(1), records(2, closed=True)
    copies = [{**item, "metadata": {**item["metadata"], "name": f"copy-{i}"}} for i, item in enumerate(whole)]
    files = [in_file(tmp_path, f"{i}.json", items) for i, items in enumerate((whole, early, copies))]
    words = [word for file in files for word in ("--file", file)]
    status, out, err = run(capsys, *words, *SPAN, "--json")

    assert (status, json.loads(out)["node_cost"]) == (0, "4")
    assert "is there twice" not in err


def test_two_clusters_without_a_name_are_not_billed_as_one(tmp_path: Path, capsys) -> None:
    found = [[{**item, "spec": {**item["spec"], "cluster": ""}} for item in records(hours)] for hours in (1, 2)]
    files = [in_file(tmp_path, f"{i}.json", items) for i, items in enumerate(found)]
    other = json.loads(Path(files[1]).read_text())
    cards = next(item["spec"]["cards"] for item in other["items"] if item["spec"].get("cards"))
    cards[0]["cost"] = "7"
    Path(files[1]).write_text(json.dumps(other))
    status, _, err = run(capsys, "--file", files[0], "--file", files[1], *SPAN, "--json")

    assert status == 1
    assert "TenantUsage 2025112716 is there twice, with other amounts, in cluster ''" in err


def test_hours_without_a_record_are_named(tmp_path: Path, capsys) -> None:
    items = [item for item in records(4) if not item["metadata"]["name"].startswith("2025112717")]
    status, _, err = run(capsys, "--file", in_file(tmp_path, "a.json", items), *SPAN, "--json")

    assert status == 1
    why = "it was not metered then, or its records were deleted (metering.retentionDays)"
    assert err.splitlines() == [
        "kerf: cluster west: there is no record between 2025-11-27T17:00Z and 2025-11-27T18:00Z",
        f"kerf: cluster west: there is no record before 2025-11-27T16:00Z: {why}",
        "kerf: cluster west: there is no record after 2025-11-27T20:00Z: is metering on, and does a scheduler lead?",
    ]


def test_an_hour_that_has_just_begun_may_have_no_record_yet() -> None:
    found = [parse_usage(item) for item in records(1)]
    begun = START + HOUR_MS

    assert missing_hours(found, START, begun + HOUR_MS, begun + LATE_MS) == Missing((), ())
    assert len(missing_hours(found, START, begun + HOUR_MS, begun + LATE_MS + 1).ends) == 1


def test_an_end_within_an_hour_says_that_two_bills_count_it(file: str, capsys) -> None:
    india, span = "2025-11-27T00:00:00+05:30", ("--file", file, "--since", "2025-11-26")

    assert run(capsys, *span, "--until", india)[2].count("lies within an hour of UTC") == 1
    assert run(capsys, "--file", file, "--since", india, "--until", india)[2].count("lies within an hour of UTC") == 2
    assert "lies within" not in run(capsys, "--file", file, "--since", "36h")[2]
    assert "lies within" not in run(capsys, *span, "--until", "2025-11-27T17:00:00Z")[2]
