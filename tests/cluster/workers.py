"""`-p tests.cluster.workers -n 2`: one worker for each module of cluster tests, and one for all that start a real node.

Whether two real nodes at a time leave their tests enough time was not tried. (`--dist loadgroup` of pytest-xdist 3.8.0
does not group under pytest 9.2.0, which keeps no names that others write.)
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

FIXTURES = frozenset({"node", "node_name"})
"""Of tests that start a real node."""
_STARTS_ONE = re.compile(r"\bnode: Node\b|\bnode_name: str\b|mark\.starts_a_node")


@cache
def starts_a_node(module: str) -> bool:
    """Whether the text of a test module asks for a real node. `module` is a path from the root."""
    return _STARTS_ONE.search(Path(module).read_text()) is not None


class Modules(LoadScopeScheduling):  # type: ignore[misc]
    """A test's scope is its module, or that of all modules with a real node."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "real node" if starts_a_node(module) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Modules:
    """The scheduler of this run."""
    return Modules(config, log)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Stop where a test asks for a real node by a fixture and its module's text does not show it."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    asking = {item.nodeid.partition("::")[0] for item in here if FIXTURES & set(getattr(item, "fixturenames", ()))}
    if hidden := sorted(module for module in asking if not starts_a_node(module)):
        raise pytest.UsageError(f"{', '.join(hidden)}: annotate the fixture, `node: Node`, so that it gets its worker")
