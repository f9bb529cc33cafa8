"""`kerf quota apply`: write the tenants' objects, and with engine kueue Kueue's, as the plan has them."""

import argparse
import sys

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.quota import KIND, PATH
from kerfctl.errors import CliError
from kerfctl.quota.plan import QuotaPlan, make_plan, print_plan
from kerfctl.quota.tenant_files import read_tenants
from kerfctl.report import say
from kerfctl.world import NO_CRD, NO_KUEUE, Also, read_world
from scheduler.kueue.controller import apply_change
from scheduler.quota.objects import Change

FIELD_MANAGER = "kerf-cli"


def run_apply(args: argparse.Namespace) -> int:
    """Plan, apply change by change, stop at the first error with what was applied so far."""
    files = read_tenants(args.tenants)
    args.file = None
    world = read_world(args, Also.KUEUE)
    if world.tenants is None:
        raise CliError(NO_CRD)
    plan = make_plan(files, world, prune=args.prune)
    print_plan(plan)
    assert world.kube is not None
    _apply(world.kube, plan)
    if world.managed is None:
        raise CliError(f"the tenants' objects are applied, Kueue's are not: {NO_KUEUE}")
    return 0


def _apply(kube: Kube, plan: QuotaPlan) -> None:
    writes = (*plan.tenants, *plan.kueue)
    for number, change in enumerate(writes, 1):
        try:
            _write(kube, change)
        except KubeError as error:
            kind, _, name = change.key
            done = f"{number - 1} of {len(writes)} changes are applied, the rest is not; run it again"
            raise CliError(f"stopped at {change.action} {kind} {name}: {error}; {done}") from error
        say(f"applied: {change}", file=sys.stdout)
    if not writes:
        say("nothing to apply")


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
