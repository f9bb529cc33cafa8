"""Settings: flags over environment over defaults; policies that reload, and broken ones that change nothing."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from kerf.config.load import PolicyFile, load_settings, read_policy, required_setting, setting
from kerf.values.policy import SchedulingPolicy
from kerf.wire.errors import WireError


@dataclass(frozen=True)
class Settings:
    node_name: str = required_setting("the node")
    slots: int = setting(10, "slots")
    fallback: bool = setting(False, "a switch")
    trusted: tuple[str, ...] = setting((), "names")


def load(*argv: str) -> Settings:
    return load_settings(Settings, argv, program="x", about="y")


def policy(folder: Path, nodes: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(f"apiVersion: kerf.dev/v1alpha1\nkind: SchedulingPolicy\nspec:\n  nodes: {nodes}\n")
    return path


def test_a_flag_goes_before_the_environment_and_that_before_the_default(monkeypatch):
    assert load("--node-name", "n").slots == 10
    monkeypatch.setenv("KERF_SLOTS", "20")
    assert load("--node-name", "n").slots == 20
    assert load("--node-name", "n", "--slots", "30").slots == 30


def test_a_tuple_repeats_and_a_switch_switches(monkeypatch):
    monkeypatch.setenv("KERF_TRUSTED", "a,b")
    assert load("--node-name", "n").trusted == ("a", "b")
    monkeypatch.delenv("KERF_TRUSTED")
    assert load("--node-name", "n", "--trusted", "a", "--trusted", "b", "--fallback") == Settings(
        "n", 10, True, ("a", "b")
    )


@pytest.mark.parametrize("argv", [(), ("--node-name", "n", "--slotz", "3"), ("--node-name", "n", "--slots", "many")])
def test_a_missing_unknown_or_wrong_flag_ends_the_program(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        load(*argv)

    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_no_file_means_the_shipped_policy():
    assert read_policy(None) == SchedulingPolicy()


def test_a_policy_that_is_no_yaml_names_the_file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("{")

    with pytest.raises(WireError, match=r"p\.yaml"):
        read_policy(str(path))


def test_a_changed_policy_is_taken_and_a_broken_one_is_reported_once_and_ignored(tmp_path):
    path = policy(tmp_path, "binpack")
    taken: list[str] = []
    told: list[str] = []
    watched = PolicyFile(str(path))

    def look() -> None:
        watched.reload(lambda new: taken.append(new.nodes), told.append)

    look()
    policy(tmp_path, "spread # changed")
    look()
    policy(tmp_path, "best-fit # wrong")
    look()
    look()

    assert taken == ["spread"]
    assert watched.policy.nodes == "spread"
    assert len(told) == 1
    assert "spec.nodes" in told[0]
