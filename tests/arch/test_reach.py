"""Nothing is unreached: every module is imported, at once or late, from a program's main, and every name is used."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import grimp
import pytest

from tests.source_code import imported

ROOT = Path(__file__).parents[2]
PRODUCT = ("kerf", "scheduler", "deviceplugin", "webhook", "kerfctl")
PROGRAMS = (
    "scheduler.__main__",
    "scheduler.usage.__main__",
    "deviceplugin.__main__",
    "deviceplugin.mps.__main__",
    "webhook.__main__",
    "kerfctl.main",
)
EXCEPTIONS = {"kerf.testing": "builders and fakes, shipped for those who test against Kerf"}
UNUSED = {"DISPATCHER": "what administrators write into Kueue's configuration"}
DEFINED = re.compile(r"^(?:(?:async )?def |class )(\w+)|^([A-Z][A-Z0-9_]*)(?:: [^=\n]+)? = ", re.MULTILINE)
"""Functions, classes and constants of modules."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PRODUCT, "sandbox", cache_dir=None)


def unreached(graph: grimp.ImportGraph, roots: set[str], *packages: str) -> list[str]:
    """Modules of the packages, packages themselves apart, that no root reaches. Late imports in functions count."""
    found = set(roots)
    for root in roots:
        found |= graph.find_upstream_modules(root)
    leaves = {module for module in graph.modules if module.startswith(packages) and not graph.find_children(module)}
    return sorted(leaves - found)


def test_every_module_of_the_product_is_reached_from_a_main(graph: grimp.ImportGraph) -> None:
    left = unreached(graph, set(PROGRAMS), *(f"{package}." for package in PRODUCT))

    assert [module for module in left if not module.startswith(tuple(EXCEPTIONS))] == []


def test_every_module_of_the_sandbox_is_reached_from_its_main_or_by_the_tests_and_benchmarks_it_is_for(
    graph: grimp.ImportGraph,
) -> None:
    files = subprocess.run(
        ["git", "ls-files", "tests/*.py", "benchmarks/*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / file for file in files.stdout.split()]
    users = {name for path in paths if "sandbox" in path.read_text() for name in imported(path)} & graph.modules
    scripts = {f"sandbox.{path.stem}" for path in (ROOT / "sandbox").glob("*.py") if runs_as_a_file(path)}

    assert unreached(graph, {"sandbox.__main__", *users, *scripts, *PROGRAMS}, "sandbox.") == []


def test_every_name_of_the_product_is_used_by_more_than_tests() -> None:
    texts = {path: path.read_text() for package in (*PRODUCT, "sandbox") for path in (ROOT / package).rglob("*.py")}
    words = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    shipped = [path for path in texts if not {"_pb", "testing", "sandbox"} & set(path.relative_to(ROOT).parts)]
    names = {(path, found[1] or found[2]) for path in shipped for found in DEFINED.finditer(texts[path])}
    once = [(path, name) for path, name in sorted(names) if words[name] == 1 and name not in UNUSED]

    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in once] == []


def test_a_module_that_nothing_imports_is_found(graph: grimp.ImportGraph) -> None:
    assert "scheduler.solver.check" in unreached(graph, {"scheduler.core.fit"}, "scheduler.")


def runs_as_a_file(path: Path) -> bool:
    """Whether the module is a program of its own, started by its path."""
    return any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in ast.parse(path.read_text()).body
    )
