"""Boards and alerts asked of Prometheus' own parser, engine and rule checker, over what the daemons really show."""

import json
import subprocess
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerfctl.main import main
from sandbox import ensure
from tests.chart.boards import BOARDS, board
from tests.chart.helm import CHART
from tests.chart.scraped import MINUTES, START, pages
from tests.docs.test_operations import ALERTS

pytestmark = pytest.mark.chart
RULES = CHART / "alerts" / "kerf.rules.yaml"
QUERIES = {
    f"{name}: {panel['title']}: {target['refId']}": target["expr"].replace("$tenant", ".*")
    for name in BOARDS
    for panel in board(name)["panels"]
    for target in panel["targets"]
}
QUIET = {"KerfNobodyLeads": "the leader leads", "KerfWebhookIsAway": "it is scraped"}
"""Alerts that cannot be raised beside the others, and why."""
COST = "sum(container_gpu_allocation * on (instance) group_left sum by (instance) (node_gpu_hourly_cost))"
"""OpenCost's arithmetic: allocation times the node's price of a GPU."""
Found = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return asked(list(pages(tmp_path_factory.mktemp("node"))), {**QUERIES, "cost": COST})


def asked(scraped: list[Found], queries: dict[str, str]) -> Found:
    """What Prometheus finds at the last scrape."""
    question = {"pages": scraped, "rules": str(RULES), "queries": queries, "at": START + (MINUTES - 1) * 60_000}
    program = str(ensure(("promql",))["promql"])
    done = subprocess.run((program,), input=json.dumps(question), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: Found = json.loads(done.stdout)
    return answer


def values(one: Found, *names: str) -> dict[tuple[str, ...], float]:
    """Values by the labels of these names, rounded."""
    pairs = zip(one["series"], one["values"], strict=True)
    return {tuple(labels.get(name, "") for name in names): round(value, 6) for labels, value in pairs}


def test_prometheus_finds_nothing_wrong_with_the_rules(found: Found) -> None:
    assert found["wrong"] == []
    assert set(found["alerts"]) == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("name", QUERIES)
def test_a_panel_shows_something_and_prometheus_does_not_warn(found: Found, name: str) -> None:
    one = found["queries"][name]

    assert (one.get("error"), one.get("warnings")) == (None, None)
    assert one["values"] != []
    assert not any(isnan(value) for value in one["values"])


@pytest.mark.parametrize("name", [rule["alert"] for rule in ALERTS])
def test_an_alert_is_raised_by_what_it_is_about_and_says_so_in_whole_words(found: Found, name: str) -> None:
    one = found["alerts"][name]

    assert (one.get("error"), one.get("warnings")) == (None, None)
    assert bool(one["values"]) == (name not in QUIET)
    for said in one.get("says", ()):
        assert "<no value>" not in str(said)
        assert "error:" not in said["summary"]
        assert said["summary"] == " ".join(said["summary"].split()), "a label is missing in its words"


def test_an_alert_that_is_quiet_beside_the_others_is_raised_where_nothing_is_scraped() -> None:
    nothing = asked([], {})["alerts"]

    assert {name for name, one in nothing.items() if one["values"]} == set(QUIET)


def test_the_boards_arithmetic_is_that_of_the_bill(found: Found) -> None:
    """Four quarters of one card at 2 USD an hour, a second card idle, a third one without a price."""
    of = found["queries"]

    assert values(of["fleet: Cards held, by class: A"], "class") == {("nvidia-h100",): 1.0}
    assert values(of["fleet: Part of the cards that is held: A"], "class") == {("nvidia-h100",): 0.5}
    assert values(of["fleet: Cost an hour: allocated and idle: A"]) == {(): 2.0}
    assert values(of["fleet: Cost an hour: allocated and idle: B"]) == {(): 2.0}
    assert values(of["fleet: Cost an hour, by tenant: A"], "tenant") == {("team",): 2.0}
    assert values(of["cost"]) == {(): 2.0}
    assert values(of["node: GPU time, by container: A"], "namespace", "pod") == {("default", "pod"): 0.25}
    assert values(of["node: Time that launches waited: A"], "namespace", "pod") == {("default", "pod"): 0.1}


def test_what_keda_is_given_to_ask_finds_the_recommendation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "ns/Deployment/a", "--keda", "--prometheus", "http://p:9090"]) == 0
    (trigger,) = yaml.safe_load(capsys.readouterr().out)["spec"]["triggers"]
    one = asked(list(pages(tmp_path)), {"keda": trigger["metadata"]["query"]})["queries"]["keda"]

    assert values(one) == {(): 1.0}


def test_the_namespace_of_a_series_is_the_pods_and_not_the_targets(found: Found) -> None:
    """What `honorLabels` of the ServiceMonitors is for."""
    assert set(values(found["alerts"]["KerfOveruse"], "namespace", "pod")) == {("default", "pod")}


def test_a_query_that_prometheus_does_not_understand_is_an_error(tmp_path: Path) -> None:
    wrong = asked([], {"broken": "sum by (x) rate(kerf_x[5m])", "range": "rate(kerf_x)"})["queries"]

    assert all(one["error"] for one in wrong.values())
