"""What tests read in the source code: its statements and imports, without a walk through every expression."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below the node, at any depth."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


@cache
def imported(path: Path) -> frozenset[str]:
    """Modules that a file imports, and names that it imports from packages. Late imports in functions count."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)
