"""What happens beside the answers that `make bench-extender` measures: pod events, plans, a follower that asks."""

import contextlib
import functools
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from benchmarks.fake_api_server import CARDS, container_json, pending
from benchmarks.http_client import Client

EVENTS_PER_S = 50
FOLLOWER_PER_S = 20
"""Pods a second that a follower passes on to the leader."""
PLAN_NODES = 15
PLAN_EVERY_S = 1.0
TURNS_AHEAD = 8
"""Turns whose gangs are written before the clock runs: this process measures, so it must not also write JSON."""
GANGS, MEMBERS = 8, 20
SHAPES = ((36_000, 45), (45_000, 55), (52_000, 60), (60_000, 75), (70_000, 90))
"""MiB and percent of SMs of the gangs' pods: more than their nodes have left, so that a plan has to search."""


@contextlib.contextmanager
def pod_events(api: Client) -> Iterator[None]:
    """Pods come, start, change and go."""
    api.post(f"/bench/rate?per_s={EVENTS_PER_S}", {})
    try:
        yield
    finally:
        api.post("/bench/rate?per_s=0", {})


@contextlib.contextmanager
def plans(api: Client) -> Iterator[None]:
    """Gangs that compete for a few nodes come again and again, so that a plan is under way nearly all of the time."""
    for turn in range(TURNS_AHEAD):
        _gangs(turn)
    with _running(lambda stop: _send_gangs(api, stop)):
        yield


@contextlib.contextmanager
def follower(leader: Client, names: list[str]) -> Iterator[None]:
    """Another replica passes its questions on to this one."""

    def ask(stop: threading.Event) -> None:
        for number in itertools.count():
            pod = pending(number)
            query = orjson.dumps({"Pod": pod, "NodeNames": names})
            fits = orjson.loads(leader.send("/filter", query, {"Kerf-Forwarded": "1"}))["NodeNames"]
            query = orjson.dumps({"Pod": pod, "NodeNames": fits})
            leader.send("/prioritize", query, {"Kerf-Forwarded": "1"})
            if stop.wait(1 / FOLLOWER_PER_S):
                return

    with _running(ask):
        yield


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    """No disturbance."""
    yield


@contextlib.contextmanager
def _running(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def _send_gangs(api: Client, stop: threading.Event) -> None:
    for turn in itertools.count():
        come, go = _gangs(turn)
        api.send("/bench/pods", come, {})
        over = stop.wait(PLAN_EVERY_S)
        api.send("/bench/pods", go, {})
        if over:
            return


@functools.cache
def _gangs(turn: int) -> tuple[bytes, bytes]:
    """Watch events: the gangs of a turn come, and they go."""
    pods = [gang_pod(turn, gang, member) for gang in range(GANGS) for member in range(MEMBERS)]
    return _events("ADDED", pods), _events("DELETED", pods)


def gang_pod(turn: int, gang: int, member: int) -> dict[str, Any]:
    """A member of a gang that may only take the cards of a few nodes."""
    name = f"gang-{turn}-{gang}-{member}"
    cards = ",".join(f"GPU-{node:05}-{card}" for node in range(PLAN_NODES) for card in range(CARDS))
    notes = {"nvidia.com/use-gpuuuid": cards, "kerf.dev/gang-size": str(MEMBERS)}
    meta = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "annotations": notes,
        "labels": {"kerf.dev/gang": f"gang-{turn}-{gang}"},
    }
    memory, cores = SHAPES[(gang + member) % len(SHAPES)]
    return {"metadata": meta, "spec": {"containers": [container_json(memory, cores)]}, "status": {"phase": "Pending"}}


def _events(kind: str, pods: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps({"type": kind, "object": pod}) + "\n" for pod in pods).encode()
