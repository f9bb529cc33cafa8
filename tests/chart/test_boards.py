"""Boards and alerts: every query asks for series and labels that the daemons really show."""

import re
from collections.abc import Iterable

import pytest
import yaml
from prometheus_client.core import Metric

from kerf.values.usage import TokenPrice
from scheduler.metering.engines import LABELS, Scaled, scale_families
from scheduler.metering.totals import CARD, LINE, MODEL, PRICE, Shown
from scheduler.metering.totals import families as usage_families
from tests.chart.boards import BOARDS, FOLDER, board, text
from tests.docs.test_operations import ALERTS, PAGE, registries

NAME = re.compile(r"\b(kerf_\w+)(?:\{([^}]*)\})?")
GROUP = re.compile(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)")
QUERIES = [
    (f"{name}: {panel['title']}", target["expr"], target["legendFormat"])
    for name in BOARDS
    for panel in board(name)["panels"]
    for target in panel["targets"]
]
QUERIES += [(rule["alert"], rule["expr"], " ".join(rule["annotations"].values())) for rule in ALERTS]


def labels_of(family: Metric) -> set[str]:
    return set(getattr(family, "_labelnames", ()))


def labels() -> dict[str, set[str]]:
    """Labels by name of every series, from the collectors themselves and from the page that documents them."""
    documented = re.findall(r"^\| `((?:kerf|hami)_\w+)` \| (\w+) \|([^|]*)\|", PAGE, re.MULTILINE)
    found = {name: {word.strip(" `") for word in words.split(",")} - {""} for name, _, words in documented}
    for name, kind, _ in documented:
        if kind == "histogram":
            found |= {f"{name}_{part}": found[name] | ({"le"} if part == "bucket" else set()) for part in
                      ("bucket", "count", "sum")}  # fmt: skip
    return found


KNOWN = labels()
TARGET = {"instance", "job", "le"}
"""What Prometheus itself adds."""
IN_WORDS = {"a card's", "a pod's"}
"""Labels of HAMi's series, which the page names by what they are about."""


def exposed() -> Iterable[tuple[str, set[str]]]:
    for metrics in registries():
        for family in metrics.registry.collect():
            yield family.name + ("_total" if family.type == "counter" else ""), labels_of(family)
    for family in (*usage_families(Shown("", "USD", {}, {}, {})), *scale_families(Scaled(), "")):
        yield family.name + ("_total" if family.type == "counter" else ""), labels_of(family)


@pytest.mark.parametrize(
    ("name", "found"),
    [pair for pair in exposed() if pair[1] and "a card's" not in KNOWN[pair[0]] and "a pod's" not in KNOWN[pair[0]]],
)
def test_the_documented_labels_are_the_exposed_ones(name: str, found: set[str]) -> None:
    assert KNOWN[name] == found


@pytest.mark.parametrize(("where", "query", "legend"), QUERIES, ids=[query[0] for query in QUERIES])
def test_a_query_asks_for_series_and_labels_that_exist(where: str, query: str, legend: str) -> None:
    asked = NAME.findall(query)
    known = [KNOWN[name] for name, _ in asked]

    assert asked, "a query without a series of Kerf's"
    for (name, matchers), has in zip(asked, known, strict=True):
        words = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert words <= has, f"{name} has no label {words - has}"
    every = set.intersection(*known) if "/" in query or " - " in query else set.union(*known)
    for group in GROUP.findall(query):
        assert {word.strip() for word in group.split(",")} <= every | TARGET
    shown = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", legend)) - {"$value"}
    assert shown <= every


def test_parentheses_are_balanced_and_rates_are_of_counters() -> None:
    for _, query, _ in QUERIES:
        assert query.count("(") == query.count(")")
        for function, name in re.findall(r"\b(rate|increase)\((kerf_\w+)", query):
            assert name.endswith(("_total", "_bucket", "_count", "_sum")) or name == "kerf_node_probe_errors", function


@pytest.mark.parametrize("name", BOARDS)
def test_the_chart_holds_the_board_as_it_is_made(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(name)
    ids = [panel["id"] for panel in board(name)["panels"]]
    assert len(set(ids)) == len(ids)


def test_there_are_three_boards_and_rules_are_yaml_with_words_for_each_alert() -> None:
    assert sorted(BOARDS) == ["fleet", "node", "tenant"]
    assert {*LINE, *CARD, *PRICE, *MODEL, *LABELS} >= {"tenant", "class", "model"}
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in ALERTS)
    assert yaml.safe_load(yaml.safe_dump(ALERTS)) == ALERTS
    assert TokenPrice.__slots__
