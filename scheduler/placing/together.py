"""Whether several pods may all leave: asked before the first of them does, so that none leaves for nothing."""

import logging
from collections.abc import Iterator, Sequence

from kerf.kube import paths
from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError
from kerf.kube.evict import NotEvicted, evict
from scheduler.core.budgets import held
from scheduler.core.victims import Evictable

_LOG = logging.getLogger("kerf.preempt")


def who_stays(kube: Kube, pods: Sequence[Evictable]) -> dict[str, str]:
    """By uid, why some of the pods would not leave now.

    The API server answers a dry run for each pod alone, so budgets that several of them share are counted here.
    """
    found: dict[str, str] = {}
    for pod in pods:
        answer = evict(kube, pod.key, pod.uid, dry_run=True)
        if isinstance(answer, NotEvicted):
            found[pod.uid] = answer.reason
    for namespace in _of_several(pods):
        mine = [pod for pod in pods if pod.key.startswith(f"{namespace}/")]
        try:
            budgets, _ = kube.list(paths.budgets(namespace))
            shared = held(budgets, list(_read(kube, mine))) if budgets else {}
        except KubeError as error:
            _LOG.warning("the PodDisruptionBudgets of namespace %s are not known: %s", namespace, error)
            continue
        for uid, budget in shared.items():
            found.setdefault(uid, f"PodDisruptionBudget {budget} does not let so many pods go at once")
    return found


def _of_several(pods: Sequence[Evictable]) -> list[str]:
    """The namespaces of which more than one pod has to leave."""
    names = [pod.key.partition("/")[0] for pod in pods]
    return sorted({name for name in names if names.count(name) > 1})


def _read(kube: Kube, pods: Sequence[Evictable]) -> Iterator[Json]:
    for pod in pods:
        namespace, _, name = pod.key.partition("/")
        yield kube.get(paths.pod(namespace, name))
