"""`kerf quota apply`: write the tenants' objects, and with engine kueue Kueue's, as the plan has them."""

import argparse

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.quota import KIND, PATH
from kerfctl.failure import FailureError
from kerfctl.quotaplan import QuotaPlan, make_plan, print_plan
from kerfctl.quotaworld import NO_CRD, NO_KUEUE, read_world
from kerfctl.tenantfiles import read_tenants
from scheduler.kueue.controller import apply_change
from scheduler.quota.objects import Change

FIELD_MANAGER = "kerf-cli"


def run_apply(args: argparse.Namespace) -> int:
    """Plan, apply change by change, stop at the first error with what was applied so far."""
    files = read_tenants(args.tenants)
    args.file = None
    world = read_world(args)
    if world.tenants is None:
        raise FailureError(NO_CRD)
    plan = make_plan(files, world, prune=args.prune)
    print_plan(plan)
    assert world.kube is not None
    _apply(world.kube, plan)
    if world.managed is None:
        raise FailureError(f"the tenants' objects are applied, Kueue's are not: {NO_KUEUE}")
    return 0


def _apply(kube: Kube, plan: QuotaPlan) -> None:
    writes = (*plan.tenants, *plan.kueue)
    for number, change in enumerate(writes, 1):
        try:
            _write(kube, change)
        except KubeError as error:
            kind, _, name = change.key
            done = f"{number - 1} of {len(writes)} changes are applied, the rest is not; run it again"
            raise FailureError(f"stopped at {change.action} {kind} {name}: {error}; {done}") from error
        print(f"applied: {change}", flush=True)
    if not writes:
        print("nothing to apply")


def _write(kube: Kube, change: Change) -> None:
    """A tenant's object by this command's own field manager; Kueue's objects as the controller writes them."""
    kind, _, name = change.key
    if kind != KIND:
        apply_change(kube, change)
    elif change.action == "delete":
        try:
            kube.delete(f"{PATH}/{name}")
        except NotFound:
            return
    else:
        kube.patch(f"{PATH}/{name}", change.document, "apply", {"fieldManager": FIELD_MANAGER, "force": "true"})
