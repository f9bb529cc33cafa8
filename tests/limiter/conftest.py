"""The limiter's tests build it first; where gcc or make is missing they are skipped, and say so."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.limiter)


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    if not (shutil.which("gcc") and shutil.which("make")):
        pytest.skip("gcc and make are needed to build the limiter")
    limiter = HERE.parents[1] / "limiter"
    subprocess.run(["make", "-s", "-C", limiter, "programs"], check=True)
