"""docs/models.md: its tables are the code's, its commands run, its links lead somewhere."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from kerfctl.main import main
from tests.docs.model_tables import PAGE, filled

ROOT = Path(__file__).parents[2]
TEXT = PAGE.read_text()
SHOWN = re.findall(r"^kerf (model (?:estimate|fit|render|validate) \S.*)$", TEXT, re.MULTILINE)
COMMANDS = [command for command in SHOWN if not command.endswith("--learned")]
"""Those that need no cluster."""


def test_the_tables_are_the_codes() -> None:
    assert filled(TEXT) == TEXT


def test_the_page_shows_every_verb() -> None:
    assert {command.split()[1] for command in COMMANDS} == {"estimate", "fit", "render", "validate"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(command: str, tmp_path, monkeypatch, capsys) -> None:
    row = json.loads((ROOT / "kerf/catalogue/rows/qwen3-1.7b.json").read_text())
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text(json.dumps(row["config"]))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)

    status = main(shlex.split(command))
    assert status == (1 if "validate" in command else 0)  # two of the example's entries cannot run
    assert capsys.readouterr().out


def test_the_example_catalogue_has_one_entry_that_runs(capsys) -> None:
    index = ROOT / "examples" / "models" / "index.yaml"
    assert len(yaml.safe_load(index.read_text())) == 3

    assert main(["model", "validate", str(index), "--json"]) == 1
    assert [one["ok"] for one in json.loads(capsys.readouterr().out)] == [True, False, False]


def test_the_machines_example_is_what_is_printed(capsys) -> None:
    shown = re.search(r"^(\{\"params\".*)$", TEXT, re.MULTILINE)
    assert shown
    words = ["--max-len", "32768", "--concurrency", "8", "--card", "H100", "--json"]
    assert main(["model", "estimate", "qwen3-8b", *words]) == 0

    head = shown[1].split(', "args"')[0]
    assert capsys.readouterr().out.startswith(head)
