"""The architecture is as drawn: import contracts, budgets, packages, examples."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

from tests.source_code import statements

ROOT = Path(__file__).parents[2]
PACKAGES = ("kerf", "kerfctl", "sandbox", "scheduler", "deviceplugin", "webhook")
LONGEST_MODULE, LONGEST_TEST, LONGEST_FUNCTION = 400, 600, 40
WIRING = {("scheduler/main.py", "_serve"): 56, ("deviceplugin/main.py", "serve"): 44}
"""A daemon's parts in the order in which they are built: each half would need all that the other half has."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "_pb" not in path.parts)


def test_no_module_outgrows_its_budget():
    long = [f"{path.relative_to(ROOT)}: {n}" for path in sources(*PACKAGES) if (n := lines(path)) > LONGEST_MODULE]
    long += [f"{path.relative_to(ROOT)}: {n}" for path in sources("tests") if (n := lines(path)) > LONGEST_TEST]

    assert long == []


def test_no_function_outgrows_its_budget():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
        for path in sources(*PACKAGES)
        for node in statements(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
        if length > WIRING.get((path.relative_to(ROOT).as_posix(), node.name), LONGEST_FUNCTION)
    ]

    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_imported_here_are_this_checkouts(package):
    assert Path(importlib.import_module(package).__file__ or "").parent == ROOT / package


def test_tests_hold_no_packages():
    """A tests/scheduler/__init__.py would shadow the scheduler itself."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_package_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    wanted = tomllib.loads(text)["project"]["dependencies"]
    lines_ = text.splitlines()
    unexplained = [dep for dep in wanted for line in lines_ if f'"{dep}"' in line and "#" not in line]

    assert unexplained == []


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())
