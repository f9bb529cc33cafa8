"""What the node's own CDI specs say of whole cards."""

import json
from pathlib import Path

from deviceplugin.state.node_specs import NodeSpecs
from kerf.testing.builders import a_card
from kerf.vendors.registry import VENDORS


def test_the_later_folder_settles_what_files_of_an_earlier_one_disagree_about(tmp_path: Path) -> None:
    """CDI's own library gives such a card to nobody (findings/cdi-a-clash-below-hides-the-device-above.sh)."""
    card = a_card()

    def write(file: str) -> None:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        edits = {"env": [f"FROM={file}"]}
        spec = {
            "cdiVersion": "0.6.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": card.id, "containerEdits": edits}],
        }
        path.write_text(json.dumps(spec))

    def found() -> list[tuple[str, list[str]]]:
        specs = NodeSpecs((str(tmp_path / "etc"), str(tmp_path / "run")), VENDORS)
        return [(name, edits["env"]) for name, edits in specs.edits([card])]

    assert found() == []
    write("etc/a.json")
    write("etc/b.json")
    assert found() == [(card.id, ["FROM=etc/b.json"])]
    write("run/a.json")
    assert found() == [(card.id, ["FROM=run/a.json"])]
