"""Settings of all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests import slow

# Machines differ and are shared: a property fails on what it says, never on the clock. `make check` tries fewer
# examples than `make test`.
settings.register_profile(
    "steady",
    deadline=None,
    max_examples=int(os.environ.get("KERF_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests before pytest chooses by markers."""
    slow.mark(items)
