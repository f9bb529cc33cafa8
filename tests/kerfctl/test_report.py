"""What comes from a cluster or a file is printed as it is: no markup is read in it, and no control character sent."""

import json
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_card, a_node, a_pod
from kerfctl.main import main
from kerfctl.report import Sheet, plain, say


@pytest.mark.parametrize("text", ["spec.containers[main].resources", "[red]x[/red]", ":smiley:", "[link=x]", "a\\[b]"])
def test_a_table_shows_a_cell_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet(text, (text,))
    sheet.add(text)
    sheet.add((text, text))
    sheet.print()

    assert capsys.readouterr().out.count(text) == 5


def test_control_characters_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "name\x1b]0;title\x07\x1b[2J\r\x9b1A"
    say(hostile)
    sheet = Sheet(hostile, ("column",))
    sheet.add(hostile)
    sheet.print()

    out = capsys.readouterr().out
    assert "name\\x1b]0;title\\x07\\x1b[2J\\r\\x9b1A" in out
    assert not set(out) & set("\x1b\x07\r\x9b")


def test_lines_and_letters_of_every_alphabet_stay() -> None:
    assert plain("två\n\tété ✓ █░") == "två\n\tété ✓ █░"


def test_a_refusal_keeps_the_name_of_the_container(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.yaml"
    state.write_text(yaml.safe_dump_all([a_node(), a_pod("half", gpu=0, mem="0.5", cores=None)]))

    main(["simulate", str(state)])

    assert "spec.containers[main].resources.limits[nvidia.com/gpumem]" in capsys.readouterr().out


def test_a_cards_model_is_no_markup(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"kind": "List", "items": [a_node(cards=(a_card(model="[bold]H100[/bold]"),))]}))

    main(["simulate", str(state)])

    assert "[bold]H100[/bold]" in capsys.readouterr().out
