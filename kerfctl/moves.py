"""The live state as a repacking problem: who may be moved, and what PodDisruptionBudgets allow."""

import argparse
from collections.abc import Mapping
from typing import Any

from kerf.values.ask import PodAsk
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.errors import WireError
from kerf.wire.objects import parse_holding
from kerf.wire.resources import parse_pod
from kerfctl.failure import FailureError
from scheduler.core.eligible import eligible_nodes, matches
from scheduler.solver.problem import Movable, Problem, Repack
from scheduler.solver.repack import plan_repack
from scheduler.state.store import Store, load

PINNED = "kerf.dev/no-repack"
"""A pod with this annotation or label, whatever its value, is never moved."""
Json = dict[str, Any]


def plan_moves(args: argparse.Namespace) -> Repack:
    """Read the cluster or the files, and plan."""
    from kerf.config.load import read_policy

    if args.file:
        from kerfctl.documents import read_documents

        documents = read_documents(args.file)
        nodes, pods = list(documents.nodes), list(documents.pods)
        budgets = documents.of("PodDisruptionBudget")
    else:
        from kerfctl.cluster import connect_to, read_budgets, read_cluster

        kube = connect_to(args)
        nodes, pods = read_cluster(kube)
        budgets = read_budgets(kube)
    store = Store(read_policy(args.policy), VENDORS, check_node=True)
    load(store, nodes, pods)
    states = tuple(store.fleet.state(name) for name in store.node_names())
    allowed = {_key(b): int((b.get("status") or {}).get("disruptionsAllowed") or 0) for b in budgets}
    known = sorted(store.node_values(), key=lambda node: node.name)
    problem = Problem(
        nodes=tuple(state for state in states if state.cards),
        asks=tuple(w.ask for w in store.pending.pods.values() if not w.problem and not w.gates),
        policy=store.policy,
        movable=tuple(m for pod in pods if (m := movable(pod, budgets)) is not None),
        running=tuple(sorted(store.ledger.gang_members().items())),
        offered=tuple(
            (pod["metadata"].get("uid", ""), frozenset(eligible_nodes(pod.get("spec") or {}, known))) for pod in pods
        ),
        budgets=tuple(sorted(allowed.items())),
    )
    return plan_repack(problem, _target(store, args.target), args.max_moves)


def movable(pod: Json, budgets: list[Json]) -> Movable | None:
    """A running pod that somebody will create again after an eviction; None for a bare, ending or pinned one."""
    meta = pod["metadata"]
    owned = any(owner.get("controller") for owner in meta.get("ownerReferences") or [])
    daemon = any(owner.get("kind") == "DaemonSet" for owner in meta.get("ownerReferences") or [])
    pinned = PINNED in (meta.get("annotations") or {}) or PINNED in (meta.get("labels") or {})
    if not owned or daemon or pinned or meta.get("deletionTimestamp"):
        return None
    try:
        holding = parse_holding(pod, VENDORS)
        ask = parse_pod(pod, NAMES, Defaults())
    except WireError:
        return None
    if holding is None:
        return None
    covering = tuple(sorted(_key(budget) for budget in budgets if covers(budget, meta)))
    return Movable(holding, ask, covering)


def covers(budget: Json, meta: Mapping[str, Any]) -> bool:
    """Whether a PodDisruptionBudget's selector matches a pod."""
    if budget["metadata"].get("namespace", "default") != meta.get("namespace", "default"):
        return False
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None:
        return False
    labels = meta.get("labels") or {}
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(matches(rule, labels) for rule in selector.get("matchExpressions") or [])


def _target(store: Store, name: str | None) -> PodAsk | None:
    if name is None:
        return None
    key = name if "/" in name else f"default/{name}"
    found = next((w for w in store.pending.pods.values() if w.ask.key == key), None)
    if found is None:
        raise FailureError(f"pod {key} does not wait for cards")
    if found.problem:
        raise FailureError(f"pod {key}: {found.problem}")
    return store.pending.sized(found.ask)


def _key(budget: Json) -> str:
    meta = budget["metadata"]
    return f"{meta.get('namespace', 'default')}/{meta.get('name', '')}"
