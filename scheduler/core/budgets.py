"""What PodDisruptionBudgets say of pods that have to leave together. Pure."""

from collections.abc import Iterable, Sequence

from kerf.wire.json import Json, at, items_at, text_at
from scheduler.core.eligible import selects


def covers(budget: Json, meta: Json) -> bool:
    """Whether a PodDisruptionBudget's selector matches a pod, given by its metadata."""
    if budget["metadata"].get("namespace", "default") != meta.get("namespace", "default"):
        return False
    if at(budget, "spec").get("selector") is None:
        return False
    return selects(at(budget, "spec", "selector"), at(meta, "labels"))


def disruptions_allowed(budget: Json) -> int:
    """How many pods may be evicted now; none where that is not known."""
    found = at(budget, "status").get("disruptionsAllowed")
    return max(found, 0) if isinstance(found, int) else 0


def held(budgets: Iterable[Json], pods: Sequence[Json]) -> dict[str, str]:
    """Those of the pods that a budget does not let go beside the ones before them: its name, by the pod's uid.

    A budget counts pods that are ready; the Eviction API itself knows when another one may go.
    """
    found: dict[str, str] = {}
    for budget in budgets:
        mine = [pod for pod in pods if covers(budget, at(pod, "metadata")) and _is_ready(pod)]
        for pod in mine[disruptions_allowed(budget) :]:
            found.setdefault(text_at(pod, "metadata", "uid"), text_at(budget, "metadata", "name"))
    return found


def _is_ready(pod: Json) -> bool:
    return any(
        each.get("type") == "Ready" and each.get("status") == "True" for each in items_at(pod, "status", "conditions")
    )
