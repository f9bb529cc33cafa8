"""The init container's script, run by a real shell with stand-ins for the hubs' commands."""

import os
import subprocess
from pathlib import Path

import pytest

from kerf.sizing.fetch import HUGGING_FACE, MODELSCOPE, Fetch, checked_fetch, init_container, script
from kerf.wire.errors import WireError

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
case "$(basename "$0") $1" in
  "hf download") [ -e "$FAIL_DOWNLOAD" ] && exit 1; echo weights > "$TO/model.safetensors" ;;
  "modelscope download") [ -e "$FAIL_DOWNLOAD" ] || echo weights > "$TO/model.safetensors" ;;
  "hf cache") [ -e "$WRONG" ] && { rm "$WRONG"; exit 1; } ;;
esac
exit 0
"""


class Volume:
    """A folder as the init container sees it."""

    def __init__(self, path: Path) -> None:
        self.to, self.log, self.bin = path / "models/m", path / "log", path / "bin"
        self.wrong, self.no_network = path / "wrong", path / "no-network"
        self.bin.mkdir()
        for name in ("hf", "modelscope", "pip"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)

    def run(self, fetch: Fetch) -> int:
        env = {"LOG": self.log, "TO": self.to, "WRONG": self.wrong, "FAIL_DOWNLOAD": self.no_network}
        words = {**os.environ, **{key: str(value) for key, value in env.items()}, "PATH": f"{self.bin}:/usr/bin:/bin"}
        return subprocess.run(["sh", "-ec", script(fetch, str(self.to))], env=words, check=False, timeout=30).returncode

    @property
    def calls(self) -> list[str]:
        return [line.replace(str(self.to), "TO") for line in self.log.read_text().splitlines()]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


HUB = Fetch(HUGGING_FACE, "o/m", revision="v1")
DOWNLOAD, VERIFY = (
    "hf download o/m --revision v1 --local-dir TO",
    "hf cache verify o/m --revision v1 --local-dir TO --fail-on-missing-files",
)


def test_weights_are_fetched_and_checked_once_for_every_pod_of_a_volume(volume: Volume) -> None:
    assert [volume.run(HUB), volume.run(HUB)] == [0, 0]
    assert volume.calls == [DOWNLOAD, VERIFY]


def test_another_revision_is_fetched_again(volume: Volume) -> None:
    volume.run(HUB)
    volume.run(Fetch(HUGGING_FACE, "o/m", revision="v2"))

    assert volume.calls[2:] == [DOWNLOAD.replace("v1", "v2"), VERIFY.replace("v1", "v2")]


def test_files_that_do_not_match_their_checksums_are_fetched_again(volume: Volume) -> None:
    volume.wrong.touch()

    assert volume.run(HUB) == 0
    assert volume.calls == [DOWNLOAD, VERIFY, f"{DOWNLOAD} --force-download", VERIFY]


def test_what_a_killed_run_left_is_removed_and_a_failed_one_leaves_no_marker(volume: Volume) -> None:
    left = volume.to / ".cache/huggingface/download/x.incomplete"
    left.parent.mkdir(parents=True)
    left.touch()
    volume.no_network.touch()

    assert volume.run(HUB) != 0
    assert not left.exists()
    volume.no_network.unlink()
    assert volume.run(HUB) == 0
    assert volume.calls == [DOWNLOAD, DOWNLOAD, VERIFY]


def test_excluded_files_are_not_missed(volume: Volume) -> None:
    volume.run(Fetch(HUGGING_FACE, "o/m", exclude=("original/*", "*.bin")))

    assert volume.calls == [
        "hf download o/m --exclude original/* --exclude *.bin --local-dir TO",
        "hf cache verify o/m --local-dir TO",
    ]


def test_modelscope_checks_checksums_itself(volume: Volume) -> None:
    assert volume.run(Fetch(MODELSCOPE, "o/m")) == 0
    assert volume.calls == ["modelscope download o/m --local-dir TO"]


def test_a_repository_without_weights_is_not_complete(volume: Volume) -> None:
    """ModelScope 1.40.2 ends with 0 where it found no files."""
    volume.no_network.touch()

    assert volume.run(Fetch(MODELSCOPE, "o/m")) == 1
    assert not (volume.to / ".kerf-complete").exists()


def test_a_name_is_never_shell(volume: Volume) -> None:
    assert volume.run(Fetch(HUGGING_FACE, "o/$(touch pwned)", revision="; exit 7")) == 0
    assert volume.calls[0] == "hf download o/$(touch pwned) --revision ; exit 7 --local-dir TO"


def test_the_token_stays_in_its_secret() -> None:
    container = init_container(Fetch(HUGGING_FACE, "o/m", secret="hub", endpoint="https://mirror"), "m", "engine:1")

    assert container["image"] == "engine:1"
    assert container["env"][1:] == [
        {"name": "HF_ENDPOINT", "value": "https://mirror"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ]


@pytest.mark.parametrize("repository", ["m", "/m", "o/", "o/m/x", "-o/m", "/models/m"])
def test_what_no_hub_has_is_refused(repository: str) -> None:
    with pytest.raises(WireError, match=r"repository: .* write OWNER/NAME"):
        checked_fetch(Fetch(HUGGING_FACE, repository))
