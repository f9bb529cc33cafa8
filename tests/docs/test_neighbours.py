"""docs/neighbours.md: every example is simulated, and the pod that its last line names gets the slice it says."""

import json
import re
from pathlib import Path

import pytest

from kerfctl.main import main

ROOT = Path(__file__).parents[2]
NODE = ROOT / "examples" / "nodes" / "one-node.yaml"
BLOCKS = re.findall(r"```yaml\n(.*?)# ([\w-]+): (.*?)\n```", (ROOT / "docs" / "neighbours.md").read_text(), re.DOTALL)


def test_every_yaml_block_has_a_last_line_with_its_result() -> None:
    assert len(BLOCKS) == (ROOT / "docs" / "neighbours.md").read_text().count("```yaml") > 4


@pytest.mark.parametrize(("text", "pod", "slice_"), BLOCKS, ids=[pod for _, pod, _ in BLOCKS])
def test_the_pod_gets_the_slice_that_the_page_says(
    text: str, pod: str, slice_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = tmp_path / "example.yaml"
    example.write_text(text)

    assert main(["simulate", str(NODE), str(example), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["refused"], found["left_out"]) == ([], [])
    (piece,) = next(one["slices"] for one in found["pods"] if one["name"] == pod)
    cores = f", {piece['cores']} %" if piece["cores"] else ""
    assert f"{piece['memory_mib']:,} MiB{cores}" == slice_
