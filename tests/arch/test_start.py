"""What a program loads before it does anything: each of these libraries costs memory and start of every process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("main", "late"),
    [("scheduler.main", ("aiohttp", "cryptography", "kubernetes", "ortools", "pandas", "pynvml", "rich", "grpc"))],
)
def test_a_program_starts_without_the_libraries_that_only_some_clusters_need(main: str, late: tuple[str, ...]) -> None:
    code = f"import sys, {main}; print(*[name for name in {late!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
