"""The node's history of pods on disk."""

from pathlib import Path
from typing import Any

from deviceplugin.core.usage import ContainerRef
from deviceplugin.state.files import Files
from deviceplugin.state.history import PodHistory
from deviceplugin.state.node_specs import NodeSpecs
from kerf.testing.builders import a_grant, a_pod
from kerf.values.grant import Holding
from kerf.values.units import MIB
from kerf.vendors.registry import VENDORS
from kerf.wire.limiter import CardLimit, CardReading, LedgerSpec, LedgerView
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


def a_ledger(peak_mib: int, denied: int = 0) -> LedgerView:
    limit = CardLimit("GPU-0", 4000 * MIB, None)
    reading = CardReading(limit, 0, peak_mib * MIB, denied, 0, 0, 0, 0)
    return LedgerView(LedgerSpec((limit,)), (reading,), (), {})


def test_peaks_of_a_server_outlive_its_restarts_and_its_ledgers(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "state"), str(tmp_path / "cdi"), None, NodeSpecs((), VENDORS))
    history = PodHistory(files, lambda: 1000)
    container = {"name": "main", "image": "vllm/vllm-openai:v0.33.0", "command": ["vllm", "serve"], "args": ["m"]}
    pod = a_pod("chat", node="node-1", grant=a_grant(memory_mib=4000), annotations={"kerf.dev/model": "qwen3-8b"})
    pod["spec"]["containers"] = [pod["spec"]["containers"][0] | container]
    uid = pod["metadata"]["uid"]
    ref = ContainerRef(uid, "main")
    history.begin(pod, a_holding(pod))

    history.see(history.read(), {ref: a_ledger(3000, denied=2)}, {uid: pod})
    history.restart(ref, a_ledger(3500, denied=3))
    history.restart(ref, a_ledger(0))
    terminated = {"name": "main", "lastState": {"terminated": {"exitCode": 1}}}
    failed = {**pod, "status": {"containerStatuses": [terminated]}}
    history.see(history.read(), {ref: a_ledger(1000, denied=1)}, {uid: failed})

    (record,) = parse_records(history.page(""))
    (server,) = record.servers
    assert (server.model, server.image, server.command, server.args) == (
        "qwen3-8b",
        "vllm/vllm-openai:v0.33.0",
        ("vllm", "serve"),
        ("m",),
    )
    assert (server.limit_mib, server.peak_mib, server.denied, server.starts) == (4000, 3500, 4, 2)
    assert server.failed


def test_a_pod_that_names_no_model_has_no_servers(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "state"), str(tmp_path / "cdi"), None, NodeSpecs((), VENDORS))
    history = PodHistory(files, lambda: 1000)
    pod = a_pod("chat", node="node-1", grant=a_grant())
    history.begin(pod, a_holding(pod))

    history.see(history.read(), {ContainerRef(pod["metadata"]["uid"], "main"): a_ledger(10)}, {})

    assert [record.servers for record in parse_records(history.page(""))] == [()]
