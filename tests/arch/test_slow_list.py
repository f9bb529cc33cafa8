"""The list of slow tests names tests that exist, and is chosen by what the quick loop may take."""

import ast
from pathlib import Path

from tests import slow


def functions_in(path: Path) -> set[str]:
    """`path::function` and `path::Class::function` of a test module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        found.add(f"{path}::{getattr(node, 'name', '')}")
        if isinstance(node, ast.ClassDef):
            found |= {f"{path}::{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_every_slow_test_exists():
    listed = slow.slow_functions()
    files = {Path(name.partition("::")[0]) for name in listed}
    assert [str(path) for path in files if not path.is_file()] == []
    there = set().union(*(functions_in(path) for path in files))

    assert [name for name in sorted(listed - there) if not name.endswith("::runTest")] == []


def test_the_costliest_functions_are_left_out_until_the_others_fit_but_none_of_many_small_cases():
    measures = [
        "0.4 a.py::test_long",
        "0.15 a.py::test_short",
        *(f"0.009 a.py::test_many[{i}]" for i in range(100)),
        *(f"0.08 a.py::test_few[{i} [x]]" for i in range(2)),
    ]

    assert slow.chosen(measures, quick_s=1.3) == ["a.py::test_long"]
    assert slow.chosen(measures, quick_s=1.1) == ["a.py::test_few", "a.py::test_long"]
    assert slow.chosen(measures, quick_s=1.0) == ["a.py::test_few", "a.py::test_long", "a.py::test_short"]
    assert slow.chosen(measures, quick_s=2.0) == []
