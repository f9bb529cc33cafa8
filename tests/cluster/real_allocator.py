"""Kubernetes' own DRA allocator as a program: one question, one answer."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import ensure
from tests.chart.helm import render

NODE = "node-1"


class Kubernetes:
    """The Go program of `sandbox/parts/allocator`: one question, one answer."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._classes = [each for each in render("dra.enabled=true") if each["kind"] == "DeviceClass"]

    def allocate(
        self, slices: tuple[dict[str, Any], ...], allocated: list[dict[str, Any]], claim: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The allocation of one more claim, None if the node has no room."""
        found = self.ask(slices, allocated, [claim])
        assert "error" not in found
        return found["allocations"][0] if found["allocations"] else None

    def ask(
        self, slices: tuple[dict[str, Any], ...], allocated: list[dict[str, Any]], claims: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """`allocations` of the claims of one pod, none where the node has no room; or an `error`."""
        question = {"node": NODE, "slices": slices, "classes": self._classes, "allocated": allocated, "claims": claims}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module", name="kubernetes")
def running_allocator() -> Iterator[Kubernetes]:
    """The program, for the tests of a module that imports this."""
    running = Kubernetes(str(ensure(("allocator",))["allocator"]))
    yield running
    running.close()
