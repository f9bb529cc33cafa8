"""Heavy libraries stay where they belong, and every module can be imported alone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("webhook.main", ("kubernetes", "ortools", "numpy", "pynvml")),
        ("deviceplugin.main", ("ortools", "numpy")),
        ("kerfctl.main", ("ortools", "kubernetes", "numpy", "rich", "grpc")),
    ],
)
def test_a_daemon_does_not_pay_for_what_it_does_not_use(module, forbidden):
    code = f"import sys, {module}; print(sorted(set({forbidden!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
