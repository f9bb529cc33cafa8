"""The list of slow tests names tests that exist, and is chosen by both bounds."""

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


def test_a_function_is_slow_by_all_its_cases_and_by_one_of_them():
    measures = [
        "0.2 a.py::test_long",
        "0.14 a.py::test_short",
        *(f"0.01 a.py::test_many[{i}]" for i in range(100)),
        *(f"0.08 a.py::test_few[{i} [x]]" for i in range(2)),
    ]

    assert slow.chosen(measures) == ["a.py::test_few", "a.py::test_long"]
