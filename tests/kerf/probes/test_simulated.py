"""Fleet files: what they mean, and what is said about broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.probes.base import ProcessUse
from kerf.probes.recovery import Sign
from kerf.probes.simulated import LOST, SimulatedProbe, parse_fleet, parse_uses
from kerf.values.device import Card
from kerf.values.fault import Fault, Signal, Verdict
from kerf.values.health import HEALTHY, SUSPECT, Health, State
from kerf.values.units import MIB
from kerf.wire.errors import WireError

FLEETS = Path(__file__).parents[3] / "examples" / "fleets"


def test_entries_become_cards_with_running_indices_and_ids_that_name_the_node():
    fleet = {
        "cards": [
            {"model": "A", "memory_mib": 1000, "count": 2, "numa": [0, 1], "links": True, "unhealthy": [1]},
            {"model": "B", "memory_mib": 2000, "ids": ["GPU-b"], "slots": 3},
        ]
    }

    assert parse_fleet(fleet, "n", slots=7) == (
        Card("GPU-n-0", 0, "nvidia", "A", 1000, slots=7, links=("GPU-n-1",), bus="0000:01:00"),
        Card("GPU-n-1", 1, "nvidia", "A", 1000, slots=7, numa=1, health=SUSPECT, links=("GPU-n-0",), bus="0000:02:00"),
        Card("GPU-b", 2, "nvidia", "B", 2000, slots=3, bus="0000:03:00"),
    )


def test_one_file_serves_named_nodes_and_the_rest():
    fleet = {
        "nodes": {
            "big": {"cards": [{"model": "A", "memory_mib": 9}], "uses": [{"card": "x", "pid": 7, "memory_mib": 2}]}
        },
        "cards": [{"model": "B", "memory_mib": 1}],
    }

    assert [card.model for node in ("big", "small") for card in parse_fleet(fleet, node)] == ["A", "B"]
    assert parse_uses(fleet, "big") == (ProcessUse("x", 7, 2 * MIB),)
    assert parse_uses(fleet, "small") == ()


@pytest.mark.parametrize("path", sorted(FLEETS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_fleets(path: Path):
    document = yaml.safe_load(path.read_text())

    for node in document.get("nodes", {"any": {}}):
        assert parse_fleet(document, node)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        pytest.param([], "fleet: '[]': write an object", id="not an object"),
        pytest.param({"cards": []}, "cards: '[]': list the node's cards", id="no cards"),
        pytest.param({"card": []}, "card: '[]': unknown key; use one of cards, uses, nodes", id="a misspelt key"),
        pytest.param({"cards": [{"model": "A"}]}, "cards[0].memory_mib: 'None': write a whole number", id="no memory"),
        pytest.param({"cards": [{"memory_mib": 1}]}, "cards[0].model: 'None': write a text", id="no model"),
        pytest.param(
            {"cards": [{"model": "A", "memory_mib": 1, "count": 2, "ids": ["x"]}]}, "list 2 ids", id="too few ids"
        ),
        pytest.param(
            {"cards": [{"model": "A", "memory_mib": 1, "ids": ["x"]}] * 2}, "give every card its own id", id="equal ids"
        ),
        pytest.param({"cards": [{"model": "A", "memory_mib": 1, "unhealthy": [1]}]}, "from 0 to 0", id="no such card"),
        pytest.param(
            {"cards": [{"model": "A", "memory_mib": 1, "health": [{"card": 0, "state": "ill"}]}]},
            "cards[0].health[0].state: 'ill': use one of healthy, suspect",
            id="no such state",
        ),
        pytest.param(
            {"cards": [{"model": "A", "memory_mib": 1, "health": [{"card": 1, "state": "suspect"}]}]},
            "cards[0].health[0].card: '1': write a whole number from 0 to 0",
            id="no such card's health",
        ),
        pytest.param({"cards": [{"model": "A", "memory_mib": 1, "numa": "x"}]}, "write one number, or 1", id="numa"),
        pytest.param({"cards": [{"model": "A", "memory_mib": 1, "mode": "x"}]}, "use one of shared, mig", id="mode"),
        pytest.param({"nodes": {"n": {"gpus": []}}}, "nodes.n.gpus: '[]': unknown key", id="misspelt below a node"),
    ],
)
def test_an_error_in_a_fleet_names_the_field_and_the_fix(fleet: Any, message: str):
    with pytest.raises(WireError) as caught:
        parse_fleet(fleet, "n")

    assert message in str(caught.value)


def test_a_cards_health_can_be_given_in_detail():
    health = [{"card": 1, "state": "cordoned", "cause": "XID 79", "since": 7}, {"card": 2, "state": "recovering"}]
    fleet = {"cards": [{"model": "A", "memory_mib": 1, "count": 4, "unhealthy": [2, 3], "health": health}]}

    assert [card.health for card in parse_fleet(fleet, "n")] == [
        HEALTHY,
        Health(State.CORDONED, "XID 79", 7),
        Health(State.RECOVERING),
        SUSPECT,
    ]


def test_the_probe_reads_again_what_changed_and_survives_what_is_broken(tmp_path: Path):
    path = tmp_path / "fleet.yaml"
    path.write_text("cards: [{model: A, memory_mib: 1000, count: 2}]")
    probe = SimulatedProbe(str(path), "n")
    assert not probe.wait_change(0.0)

    path.write_text("cards: [{model: A, memory_mib: 1000, count: 2, unhealthy: [0]}]")
    assert probe.wait_change(5.0)
    assert [card.healthy for card in probe.cards()] == [False, True]

    path.write_text("cards: 3 # broken")
    assert ([card.healthy for card in probe.cards()], probe.errors) == ([False, False], 1)


def test_a_missing_file_is_an_error_at_the_start(tmp_path: Path):
    with pytest.raises(WireError, match="name a readable fleet file"):
        SimulatedProbe(str(tmp_path / "none.yaml"), "n")


def test_a_card_that_is_listed_as_lost_is_reported_once_it_is_read_and_recovers_when_it_is_back(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("cards: [{model: A, memory_mib: 1000, count: 2, lost: [1]}]")
    probe = SimulatedProbe(str(path), "n", clean_reads=lambda: 2, clock=lambda: 100.0)

    probe.cards()
    assert probe.faults() == (Fault(100, "GPU-n-1", 79, Signal.LOST, LOST),)
    probe.report("GPU-n-1", Sign(Verdict.EVICT, LOST, 100, 79))
    probe.cards()
    assert probe.faults() == ()
    assert [card.health.moves for card in probe.known()] == [False, True]

    path.write_text("cards: [{model: A, memory_mib: 1000, count: 2}]")
    assert [[card.health.state.value for card in probe.cards()][1] for _ in range(2)] == ["recovering", "healthy"]


@pytest.mark.parametrize(
    ("entry", "field"),
    [({"buses": ["x"]}, "buses"), ({"buses": []}, "buses"), ({"lost": [1]}, "lost")],
)
def test_a_wrong_bus_or_lost_card_names_the_field(tmp_path, entry, field):
    path = tmp_path / "fleet.yaml"
    path.write_text(json.dumps({"cards": [{"model": "A", "memory_mib": 1000, **entry}]}))

    with pytest.raises(WireError, match=rf"cards\[0\].{field}"):
        SimulatedProbe(str(path), "n")
