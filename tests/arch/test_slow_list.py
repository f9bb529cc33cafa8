"""The list of slow tests names tests that exist, and is chosen by what the quick loop may take."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests import slow

MACHINE = "runTest"
"""The one test of a hypothesis state machine: `test_x = Machine.TestCase` is collected as `test_x::runTest`."""


def names_of(path: Path) -> set[str]:
    """`path::function`, `path::Class::function` and `path::machine::runTest` of a test module, by its text alone."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body if path.is_file() else ():
        if isinstance(node, ast.FunctionDef):
            found.add(f"{path}::{node.name}")
        elif isinstance(node, ast.ClassDef):
            found |= {f"{path}::{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.Assign):
            found |= {f"{path}::{target.id}::{MACHINE}" for target in node.targets if isinstance(target, ast.Name)}
    return found


def missing(listed: Iterable[str]) -> list[str]:
    """The names that no test has."""
    by_file: defaultdict[Path, set[str]] = defaultdict(set)
    for name in listed:
        by_file[Path(name.partition("::")[0])].add(name)
    return sorted(name for path, names in by_file.items() for name in names - names_of(path))


def test_every_slow_test_exists():
    gone = missing(slow.slow_functions())

    assert gone == [], "a renamed test is quick again: write its new name in tests/slow.txt, or run make slow-list"


def test_a_name_that_no_test_has_is_found_whatever_has_changed_of_it(tmp_path: Path):
    module = tmp_path / "test_it.py"
    module.write_text(
        "def test_here(): ...\n"
        "class TestThings:\n    def test_inside(self): ...\n"
        "test_machine = Machine.TestCase\n"
        "TEXT = '''\ndef test_quoted(): ...\n'''\n"
    )
    there = {f"{module}::{name}" for name in ("test_here", "TestThings::test_inside", "test_machine::runTest")}
    renamed = {f"{module}::{name}" for name in ("test_gone", "TestThings::test_gone", "test_quoted", "gone::runTest")}
    moved = f"{tmp_path / 'test_moved.py'}::test_here"

    assert missing(there) == []
    assert missing({*there, *renamed, moved}) == sorted({*renamed, moved})


def test_the_test_of_the_list_is_never_left_out_itself():
    own = f"{slow.OWN_TEST}::test_every_slow_test_exists"

    assert slow.chosen([f"9.0 {own}", "0.4 a.py::test_long"], quick_s=1.0) == ["a.py::test_long"]
    assert not {name for name in slow.slow_functions() if name.startswith(slow.OWN_TEST)}


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
