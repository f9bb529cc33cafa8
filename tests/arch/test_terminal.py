"""The CLI prints through `kerfctl.report` alone, which sends no data to the terminal as markup or control codes."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXCEPTIONS = {"report.py", "demo.py"}
"""`report` does the printing; `demo` also writes its progress."""


def test_no_other_module_of_the_cli_prints_anything_but_json() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "kerfctl").rglob("*.py"))
        if path.name not in EXCEPTIONS
        for node in ast.walk(ast.parse(path.read_text()))
        if prints(node) or imports_rich(node)
    ]

    assert found == []


def prints(node: ast.AST) -> bool:
    """A call of `print` with something other than `json.dumps(...)`, whose output has no control characters."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"):
        return False
    return not all(isinstance(arg, ast.Call) and ast.unparse(arg.func) == "json.dumps" for arg in node.args)


def imports_rich(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich"
