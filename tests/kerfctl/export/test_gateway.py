"""`kerf export gateway`: what it prints, and one clear line for what it leaves out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_node
from kerf.testing.fake_kube import FakeKube
from kerf.values.usage import UsageRecord
from kerf.wire.usage import render_usage
from kerfctl import cluster
from kerfctl.main import main
from tests.kerf.gateways.serving import PRICE, a_replica

HOUR = 1_764_000_000_000 - 1_764_000_000_000 % 3_600_000


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A node, two replicas of a model, and a measured price."""
    usage = render_usage(UsageRecord(HOUR, HOUR + 5, currency="USD", prices=(PRICE,)))
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all([a_node(), a_replica("one"), a_replica("two", 1, memory_mib=20_390), usage]))
    return str(path)


def export(*words: str) -> tuple[str, ...]:
    return ("export", "gateway", *words)


def test_litellms_own_configuration_has_weights_and_prices(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(export("--to", "litellm", "--plain", "--namespace", "team-a", "--file", file)) == 0

    found = [each["litellm_params"] for each in yaml.safe_load(capsys.readouterr().out)["model_list"]]
    assert [(each["weight"], each["output_cost_per_token"]) for each in found] == [
        (500, "0.0000012"),
        (250, "0.0000012"),
    ]


def test_objects_are_printed_for_kubectl_apply(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(export("--to", "knoway", "--file", file)) == 0

    kinds = [item["kind"] for item in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["LLMBackend", "LLMBackend", "ModelRoute"]


def test_json_is_one_list(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(export("--to", "knoway", "--json", "--into", "edge", "--file", file)) == 0

    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["kind"], {item["metadata"]["namespace"] for item in found["items"]}) == ("List", {"edge"})


def test_the_policy_says_what_no_flag_does(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = {"to": ["litellm"], "namespace": "edge", "namespaces": ["team-a"], "cooldownSeconds": 7}
    spec = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"gateways": block}}
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(spec))

    assert main(export("--to", "litellm", "--plain", "--policy", str(policy), "--file", file)) == 0

    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["router_settings"]["cooldown_time"], found["model_list"][0]["model_name"]) == (7, "qwen3-8b")


def test_services_of_a_cluster_are_targets_where_the_policy_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"selector": {"app": "chat"}, "ports": [{"port": 80, "targetPort": 8000}]}
    meta = {"namespace": "team-a", "name": "chat"}
    kube = FakeKube(a_node(), a_replica("one"), {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    monkeypatch.setattr(cluster, "connect_to", lambda _: kube)
    block = {"to": ["litellm"], "namespace": "edge", "per": "service"}
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        yaml.safe_dump({"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"gateways": block}})
    )

    assert main(export("--to", "litellm", "--plain", "--policy", str(policy))) == 0

    (found,) = yaml.safe_load(capsys.readouterr().out)["model_list"]
    assert found["litellm_params"]["api_base"] == "http://chat.team-a.svc:80/v1"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--to", "inferencepool"), "--picker : name the endpoint picker beside the pods as SERVICE:PORT"),
        (("--to", "envoy-ai-gateway"), "--gateway : name the Gateway that routes belong to"),
        (("--to", "knoway", "--plain"), "--plain: only --to litellm has a configuration of its own"),
        (("--to", "knoway", "--pods", "gold"), "--pods gold: write KEY=VALUE"),
        (("--to", "knoway", "--namespace", "A"), "--namespace[0] A: write the name of a namespace"),
        (("--to", "knoway", "--into", "A"), "--into A: write the name of a namespace"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_flag(
    words: tuple[str, ...], error: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(export(*words, "--file", file)) == 1

    said = capsys.readouterr()
    assert (said.out, said.err.startswith(f"kerf: {error}")) == ("", True)


def test_models_that_are_left_out_are_named_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(yaml.safe_dump_all([a_replica("one", ready=False)]))

    assert main(export("--to", "litellm", "--namespace", "team-a", "--file", str(path))) == 1

    assert capsys.readouterr().err == "kerf: qwen3-8b: none of its 1 replicas is ready on a healthy card\n"


def test_a_cluster_without_models_says_how_they_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump(a_node()))

    assert main(export("--to", "knoway", "--file", str(path))) == 1

    assert capsys.readouterr().err.startswith("kerf: no pod serves a model: is vLLM or SGLang among its arguments")


@pytest.mark.parametrize(
    ("notes", "sentence"),
    [
        (
            {"kerf.dev/serving-port": "99999"},
            "kerf.dev/serving-port '99999': write a port from 1 to 65535, or \"none\"",
        ),
        ({"kerf.dev/serving-port": "http"}, "kerf.dev/serving-port 'http': write a port from 1 to 65535, or \"none\""),
        ({"kerf.dev/serving-port": "8080"}, "has kerf.dev/serving-port and names no model: name one by kerf.dev/model"),
        ({"kerf.dev/serving-port": "none"}, ""),
        ({}, ""),
    ],
)
def test_a_pod_that_says_wrongly_that_it_serves_is_named(
    notes: dict[str, str], sentence: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kerf.testing.builders import a_pod

    path = tmp_path / "odd.yaml"
    pod = a_pod("odd.v1", namespace="team-a")
    pod["metadata"]["annotations"] = notes
    path.write_text(yaml.safe_dump(pod))

    status = main(export("--to", "knoway", "--namespace", "team-a", "--file", file, "--file", str(path)))

    said = capsys.readouterr().err
    assert (status, sentence in said, "odd.v1" in said) == (int(bool(sentence)), True, bool(sentence))


def test_a_port_that_only_the_container_knows_and_two_models_of_one_name_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = a_replica("other", 1, args=["--model", "org/other", "--served-model-name", "qwen3-8b"])
    path = tmp_path / "pods.yaml"
    path.write_text(yaml.safe_dump_all([a_node(), a_replica("one"), other]))
    assert main(export("--to", "knoway", "--file", str(path))) == 0
    assert "its replicas load different models, and any of them answers" in capsys.readouterr().err

    path.write_text(yaml.safe_dump_all([a_node(), a_replica("one", args=["--model", "m", "--port", "$(PORT)"])]))
    assert main(export("--to", "knoway", "--file", str(path))) == 1
    line = "kerf: pod team-a/one: --port $(PORT) is no port: write its number as kerf.dev/serving-port"
    assert line in capsys.readouterr().err.splitlines()

    path.write_text(yaml.safe_dump_all([a_node(), a_replica("one", args=["--port", "8000", "org/m"])]))
    assert main(export("--to", "knoway", "--file", str(path))) == 1
    line = "kerf: pod team-a/one: its engine's arguments name no model: name one by kerf.dev/model, or keep gateways"
    assert f"{line} away by kerf.dev/serving-port: none" in capsys.readouterr().err.splitlines()


def test_a_replica_without_a_service_is_no_sick_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(yaml.safe_dump_all([a_node(), a_replica("one")]))

    words = ("--to", "knoway", "--namespace", "team-a", "--per", "service", "--file", str(path))
    assert main(export(*words)) == 1

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "healthy card" in line] == []
    assert lines[0].startswith("kerf: qwen3-8b: no Service leads to team-a/")
