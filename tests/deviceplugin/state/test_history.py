"""The node's history of pods on disk."""

from pathlib import Path
from typing import Any

from deviceplugin.state.files import Files
from deviceplugin.state.history import PodHistory
from deviceplugin.state.node_specs import NodeSpecs
from kerf.testing.builders import a_grant, a_pod
from kerf.values.grant import Holding
from kerf.vendors.registry import VENDORS
from kerf.wire.objects import parse_holding
from kerf.wire.records import parse_records


def a_holding(pod: dict[str, Any]) -> Holding:
    found = parse_holding(pod, VENDORS)
    assert found is not None
    return found


def test_only_pods_whose_records_were_read_before_are_ended_and_a_restart_changes_no_record(tmp_path: Path) -> None:
    now = [1000]
    files = Files(str(tmp_path / "state"), str(tmp_path / "cdi"), None, NodeSpecs((), VENDORS))
    history = PodHistory(files, lambda: now[0])
    gone, stays, late = (a_pod(name, node="node-1", grant=a_grant()) for name in ("gone", "stays", "late"))
    for pod in (gone, stays):
        history.begin(pod, a_holding(pod))
    records = history.read()
    now[0] = 2000
    for pod in (stays, late):
        history.begin(pod, a_holding(pod))

    history.end(records, {stays["metadata"]["uid"]})

    found = parse_records(history.page(""))
    assert [(one.name, one.start_ms, one.end_ms) for one in found] == [
        ("gone", 1000, 2000),
        ("stays", 1000, 0),
        ("late", 2000, 0),
    ]
