"""The nodes of a demo are those of its fleet file; a file that no sandbox can be is refused in one line."""

from pathlib import Path

import pytest

from kerf.vendors.registry import VENDORS
from kerfctl.demo import MIXED, PLAIN, _nodes_in
from kerfctl.errors import CliError

CARD = "{model: NVIDIA H200, memory_mib: 143771}"


@pytest.mark.parametrize(("fleet", "names"), [(PLAIN, ("node-1",)), (MIXED, ("hopper", "ascend-metax"))])
def test_each_node_of_the_file_is_a_node_of_the_demo(fleet, names):
    assert _nodes_in(fleet.fleet, VENDORS) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "fleet: 'None': write an object"),
        ("nodes: {", "while parsing a flow node"),
        ("nodes: {a: {cards: []}}", "nodes.a.cards: '[]': list the node's cards"),
        (f"nodes: {{GPU_1: {{cards: [{CARD}]}}}}", "node 'GPU_1': name it by 1 to 32 lower-case letters"),
        (f"nodes: {{1: {{cards: [{CARD}]}}}}", "node 1: name it by 1 to 32 lower-case letters"),
        ("cards: [{model: X, memory_mib: 1, vendor: acme}]", "vendor 'acme' is unknown; write one of nvidia, amd,"),
        (
            f"nodes: {{{', '.join(f'n{i}: {{cards: [{CARD}]}}' for i in range(9))}}}",
            "names 9 nodes; each gets a kubelet",
        ),
    ],
    ids=["empty", "no YAML", "no cards", "a bad name", "a number", "an unknown vendor", "too many nodes"],
)
def test_a_fleet_that_no_sandbox_can_be_is_refused_in_one_line(tmp_path: Path, text: str, said: str):
    file = tmp_path / "fleet.yaml"
    file.write_text(text)

    with pytest.raises(CliError) as refused:
        _nodes_in(str(file), VENDORS)

    assert str(refused.value).startswith(f"--fleet {file}")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
