"""LiteLLM's own router, in an environment of its own: what Kerf writes for it, and requests sent through it."""

import fcntl
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerf.gateways.litellm import FILE
from kerf.testing.builders import a_card, a_node_value
from kerf.values.gateways import Gateway
from kerf.values.health import Health, State
from sandbox.build import cache_dir
from tests.kerf.gateways.serving import a_replica, rendered, settings_for

pytestmark = pytest.mark.cluster
VERSION = "1.110.2"
LOCK = Path(__file__).with_name("litellm.txt")
PROGRAM = Path(__file__).with_name("programs") / "litellm_router.py"
LOST = Health(State.CORDONED, "XID 79", 1, moves=True)


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with LiteLLM, kept in the cache. Pip checks the lock's hashes."""
    home = cache_dir() / f"litellm-{VERSION}-{sys.version_info[0]}.{sys.version_info[1]}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, timeout=300)
            pip = [str(home / "bin" / "pip"), "install", "--quiet", "--require-hashes", "--requirement", str(LOCK)]
            subprocess.run(pip, check=True, timeout=900)
            (home / "done").touch()
    return home / "bin" / "python"


def config(*pods: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rendered(settings_for(Gateway.LITELLM), *pods, **more).objects[0]["data"][FILE])
    return found


def answers(python: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of each case: requests that a server got by deployment, failures, and the last request's cost."""
    done = subprocess.run(
        [str(python), str(PROGRAM)], input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_router_does_what_the_configuration_means(python: Path) -> None:
    two = [a_replica("one"), a_replica("two", 1, memory_mib=13_593)]  # 500 and 167
    nodes = [a_node_value()]
    cards = tuple(a_card(i, id=f"GPU-node-1-{i}", health=health) for i, health in enumerate([LOST, Health()]))
    lost = replace(a_node_value(), cards=cards)
    cases = [
        {"config": config(*two, nodes=nodes), "requests": 120, "status": [200, 200]},
        {"config": config(*two, nodes=[lost]), "requests": 10, "status": [200]},
        {"config": config(a_replica("one"), a_replica("two", 1), nodes=nodes), "requests": 60, "status": [500, 200]},
    ]

    even, drained, broken = answers(python, cases)

    # 500 of 667: 90 of 120, within five standard deviations
    assert abs(even["got"][0] - 90) < 24
    assert (even["failed"], even["deployments"]) == (0, 2)
    assert even["cost"] == pytest.approx(1000 * 0.25e-6 + 100 * 1.2e-6)
    assert (drained["got"], drained["failed"], drained["deployments"]) == ([10], 0, 1)
    # More than allowed_fails failures, and it gets nothing for the rest; each failure may be one more retry.
    assert 4 <= broken["got"][0] <= 6
    assert broken["failed"] <= 2
