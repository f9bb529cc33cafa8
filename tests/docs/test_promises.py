"""Every test that the page of situations names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text()


def test_every_test_that_shows_a_situation_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", PAGE)
    missing = [
        (path, name)
        for path, name in named
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]

    assert len(named) > 60
    assert missing == []


def test_every_row_of_the_tables_of_faults_and_fields_names_its_test() -> None:
    for heading in ("Faults that were found", "Ways to capacity beyond the quota"):
        section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("|")][2:]
        assert [row for row in rows if "`tests/" not in row] == [], heading
