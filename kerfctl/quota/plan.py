"""`kerf quota plan`: what tenants would get of the cards, and the writes that would make it so."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kerf.values.accounts import TenantAccount
from kerf.views.tenants import ClassLine, account_json, class_json
from kerf.wire.accounts import shrunk
from kerf.wire.json import Json, at
from kerf.wire.quota import KIND, with_defaults
from kerfctl.quota.tables import print_accounts, print_classes
from kerfctl.quota.tenant_files import read_tenants
from kerfctl.report import say
from kerfctl.world import Also, World, read_world
from scheduler.quota.accounts import TenantActivity, tenant_accounts
from scheduler.quota.capacity import Capacity
from scheduler.quota.objects import Change, changes, desired
from scheduler.quota.shares import Shares

COLUMNS = ("promised", "guaranteed", "limit", "used")


@dataclass(frozen=True, slots=True)
class QuotaPlan:
    """What would be so, and the writes in their order: the tenants' own objects, then Kueue's."""

    classes: tuple[ClassLine, ...]
    accounts: tuple[TenantAccount, ...]
    tenants: tuple[Change, ...]
    kueue: tuple[Change, ...]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    """Sentences about quotas of the cluster that cannot be read as they are written."""

    @property
    def broken(self) -> bool:
        """Whether a promise cannot be kept as it is written."""
        return bool(self.unreadable) or any(account.problems or shrunk(account) for account in self.accounts)


def run_plan(args: argparse.Namespace) -> int:
    """Plan and print. Exit status 1 where a promise cannot be kept as it is written; mistakes in files raise."""
    files = read_tenants(args.tenants)
    plan = make_plan(files, read_world(args, Also.KUEUE), prune=args.prune)
    if args.json:
        print(json.dumps(_as_json(plan), indent=2))
        return int(plan.broken)
    print_plan(plan)
    writes = (*plan.tenants, *plan.kueue)
    say("would apply:" if writes else "nothing to apply")
    for change in writes:
        say(f"  {change}")
    return int(plan.broken)


def make_plan(files: Mapping[str, Json], world: World, *, prune: bool) -> QuotaPlan:
    """The plan for the files beside what is there. Tenants that are in the cluster alone stay unless pruned."""
    live = {str(item["metadata"]["name"]): item for item in world.tenants or ()}
    others = {name: item for name, item in live.items() if name not in files}
    seen = world.held_to([*files.values(), *(() if prune else others.values())]).seen()
    limits, used = seen.store.desk.limits(), seen.store.desk.used()
    shares, capacity = limits.shares, limits.capacity
    activity = {share.tenant.name: TenantActivity(used[share.tenant.name]) for share in shares.tenants}
    wanted = desired(shares, world.policy.quota, world.names) if world.kueue and world.managed is not None else ()
    unreadable = [f"tenant {name} cannot be read: {sentence}" for name, sentence in seen.unreadable.items()]
    unreadable += [f"namespace {name}: {text}" for name, quota in limits.hard.items() for text in quota.problems]
    stays = "is in the cluster and not in the files: it stays (--prune deletes it)"
    notes = [] if prune else [f"tenant {name} {stays}" for name in others]
    accounts = tenant_accounts(shares, capacity, activity, enforced=world.enforced)
    return QuotaPlan(
        classes=tuple(class_lines(capacity, shares)),
        accounts=tuple(account for account in accounts if account.name not in seen.unreadable),
        tenants=(
            *tenant_changes(files, live, world.names[0].vendor),
            *(_deletion(name, item) for name, item in others.items() if prune),
        ),
        kueue=changes(wanted, world.managed or ()),
        notes=(*world.notes, *notes),
        unreadable=tuple(unreadable),
    )


def class_lines(capacity: Capacity, shares: Shares) -> Iterable[ClassLine]:
    """Every class of cards with what is left of it."""
    rest = dict(shares.rest)
    return (ClassLine(key, gives.cards, gives.total, rest.get(key, gives.total)) for key, gives in capacity.items())


def tenant_changes(files: Mapping[str, Json], live: Mapping[str, Json], vendor: str) -> Iterable[Change]:
    """The writes after which the cluster says what the files say, by name. Classes without a vendor are `vendor`'s."""
    for name, document in sorted(files.items()):
        wanted = with_defaults(document, vendor)
        before = live.get(name)
        details = () if before is None else tuple(_differences(wanted, before, vendor))
        if before is None or details:
            meta = {
                key: document["metadata"][key]
                for key in ("name", "labels", "annotations")
                if key in document["metadata"]
            }
            body = {"apiVersion": wanted["apiVersion"], "kind": KIND, "metadata": meta, "spec": wanted["spec"]}
            yield Change("create" if before is None else "update", (KIND, "", name), body, details)


def print_plan(plan: QuotaPlan) -> None:
    """Tables, and a line for everything that is not as the files say."""
    print_accounts(plan.accounts, COLUMNS, "Tenants")
    print_classes(plan.classes)
    for account in plan.accounts:
        for sentence in account.problems:
            say(f"✗ {account.name}: {sentence}")
        for sentence in shrunk(account):
            say(f"! {account.name}: {sentence}: all promises together exceed the cards")
    for sentence in plan.unreadable:
        say(f"✗ {sentence}")
    for note in plan.notes:
        say(f"! {note}")


def _as_json(plan: QuotaPlan) -> dict[str, Any]:
    return {
        "tenants": [account_json(account) for account in plan.accounts],
        "cards": [class_json(line) for line in plan.classes],
        "changes": [_change_json(change) for change in (*plan.tenants, *plan.kueue)],
        "notes": [*plan.unreadable, *plan.notes],
    }


def _change_json(change: Change) -> dict[str, Any]:
    kind, namespace, name = change.key
    where = {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {})}
    return {"action": change.action, **where, "details": list(change.details), "document": change.document}


def _deletion(name: str, item: Json) -> Change:
    return Change("delete", (KIND, "", name), item)


def _differences(wanted: Json, found: Json, vendor: str) -> Iterable[str]:
    """Of the specs both ways, of labels and annotations what the file says."""
    for key in ("labels", "annotations"):
        have = at(found, "metadata", key)
        for name, value in at(wanted, "metadata", key).items():
            yield from _unequal(value, have.get(name), f"metadata.{key}[{name}]")
    stored = {"namespaces": [], "classes": [], **at(found, "spec")}
    yield from _unequal(wanted["spec"], with_defaults({"spec": stored}, vendor)["spec"], "spec")


def _unequal(wanted: object, found: object, path: str) -> Iterable[str]:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in sorted({*wanted, *found}):
            yield from _unequal(wanted.get(key), found.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and _are_objects(wanted, found):
        for i, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _unequal(one, other, f"{path}[{i}]")
    elif wanted != found:
        yield f"{path}: {_text(found)} → {_text(wanted)}"


def _are_objects(one: list[object], other: list[object]) -> bool:
    return len(one) == len(other) and all(isinstance(item, Mapping) for item in (*one, *other))


def _text(value: object) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
