"""Invariants of a cluster, from the API server's objects alone, without the scheduler's code. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Json = Mapping[str, Any]
INVENTORY, GRANT = "kerf.dev/inventory", "kerf.dev/grant"
_FINISHED = frozenset({"Succeeded", "Failed"})


def overcommitted(nodes: Iterable[Json], pods: Iterable[Json]) -> list[str]:
    """One sentence for each card that is over-committed in memory (MiB), cores (%) or slots.

    Sums all containers of a pod, which is right for pods whose init containers hold nothing.
    """
    have: dict[str, tuple[int, int, int]] = {}
    for node in nodes:
        for card in json.loads(_notes(node).get(INVENTORY) or '{"cards": []}')["cards"]:
            have[card["id"]] = (card["memory_mib"], card.get("cores", 100), card.get("slots", 10))
    held: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for pod in pods:
        for _, part in _slices(pod):
            for i, amount in enumerate((part["memory_mib"], part["cores"], 1)):
                held[part["card"]][i] += amount
    return [
        f"card {card} holds {tuple(used)} of {have[card]} (MiB, cores, slots)"
        for card, used in sorted(held.items())
        if card in have and any(each > limit for each, limit in zip(used, have[card], strict=True))
    ]


def ungranted(pods: Iterable[Json], scheduler: str = "kerf-scheduler") -> list[str]:
    """Pods of Kerf's scheduler that are bound and ask for cards but have no grant."""
    return [
        pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("schedulerName") == scheduler
        and pod["spec"].get("nodeName")
        and "nvidia.com/gpu" in json.dumps(pod["spec"]["containers"])
        and GRANT not in _notes(pod)
    ]


def _slices(pod: Json) -> list[tuple[str, Json]]:
    bound = pod["spec"].get("nodeName")
    if not bound or (pod.get("status") or {}).get("phase") in _FINISHED or GRANT not in _notes(pod):
        return []
    containers = json.loads(_notes(pod)[GRANT])["containers"]
    return [(container["name"], part) for container in containers for part in container["slices"]]


def _notes(item: Json) -> Json:
    notes: Json = item["metadata"].get("annotations") or {}
    return notes
