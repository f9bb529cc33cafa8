"""A card that Kerf does not slice: never granted, counted or given slots, and every answer says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.core.slots import Resource, slots_of
from kerf.probes.simulated import parse_fleet
from kerf.testing.builders import a_card, a_node, a_pod, a_pod_ask
from kerf.testing.fake_kube import FakeKube
from kerf.values.device import Card, Mode
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import with_slicing
from kerf.values.verdict import Misfit, Reason
from kerf.vendors.registry import VENDORS
from kerf.wire.inventory import render_inventory
from kerf.wire.objects import parse_node
from kerfctl.diagnosis.cards import health
from kerfctl.diagnosis.dump import Dump
from kerfctl.main import main
from scheduler.quota.capacity import capacity
from scheduler.state.engine import Engine
from scheduler.state.fleet import Fleet

MPS = replace(a_card(id="GPU-mps"), mode=Mode.MPS)
HAMI = [
    {"id": "GPU-mps", "count": 10, "devmem": 81_559, "devcore": 100, "type": MPS.model, "mode": "mps", "health": True}
]


def a_node_with(notes: dict[str, str]) -> dict[str, Any]:
    node = a_node("n", 0)
    node["metadata"]["annotations"] = notes
    return node


SOURCES = {
    "HAMi's register": a_node_with({"hami.io/node-nvidia-register": json.dumps(HAMI)}),
    "the inventory": a_node_with({"kerf.dev/inventory": render_inventory((MPS,))}),
}


@pytest.fixture(params=SOURCES.values(), ids=list(SOURCES))
def node(request: Any) -> dict[str, Any]:
    return request.param


def test_an_mps_card_is_never_granted(node: dict[str, Any]):
    fleet = Fleet()
    fleet.put_node(parse_node(node, VENDORS))

    found = Engine(fleet, SchedulingPolicy()).place(a_pod_ask(), "n")

    assert isinstance(found, Misfit)
    assert (found.reason, "MPS" in found.detail) == (Reason.NO_SLICE, True)


def test_an_mps_card_counts_for_no_quota(node: dict[str, Any]):
    assert capacity([parse_node(node, VENDORS)], SchedulingPolicy()) == {}


def test_the_doctor_says_why_it_takes_no_slices(node: dict[str, Any]):
    (finding,) = health(Dump(VENDORS, nodes=(node,)))

    assert finding.what.startswith("node n, card 0 (GPU-mps) takes no slices: the card is shared through MPS")


def test_explain_says_why(node: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    state = tmp_path / "state.yaml"
    state.write_text(yaml.safe_dump_all([node, a_pod("waits")]))

    main(["explain", "waits", "--file", str(state)])

    assert "the card is shared through MPS, which Kerf does not control" in capsys.readouterr().out


def test_the_inventory_shows_it(node: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr("kerfctl.cluster.connect_to", lambda _: FakeKube(node))

    main(["inventory", "--json"])

    assert [card["state"] for card in json.loads(capsys.readouterr().out)["cards"]] == ["not sliced"]


@pytest.mark.parametrize(("mode", "slots"), [("mps", 6), ("mig", 10)])
def test_a_card_of_a_fleet_file_has_the_slots_of_its_mode(mode: str, slots: int):
    entries = [{"model": "NVIDIA H200", "memory_mib": 143_771, "mode": m} for m in ("shared", mode)]
    cards: tuple[Card, ...] = with_slicing(parse_fleet({"cards": entries}, "n", slots=3), VENDORS)

    assert len(slots_of(Resource("nvidia.com/gpu", "nvidia"), cards)) == slots
