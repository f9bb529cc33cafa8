"""`kerf quota status`: every tenant's accounts, counted now, beside what the objects and Kueue say."""

import argparse
import json
from collections.abc import Iterable, Mapping

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import DIMENSIONS, NOTHING, Amount, Bound
from kerf.values.units import show
from kerf.views.tenants import account_json
from kerf.wire import kueue
from kerf.wire.accounts import parse_account, shrunk
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerfctl.quota.tables import UNITS, amount_text, print_accounts
from kerfctl.report import say
from kerfctl.world import Also, World, read_world
from scheduler.kueue.activity import activity_by_tenant
from scheduler.quota.accounts import tenant_accounts

COLUMNS = ("guaranteed", "borrowed", "used", "pending", "limit")
WITH_KUEUE = (*COLUMNS, "reserved", "drift")
COMPARED = ("guaranteed", "limit", "used", "pending")


def run_status(args: argparse.Namespace) -> int:
    """Read, count and print. Exit status 0 also when something is wrong: that is an answer."""
    world = read_world(args, Also.KUEUE)
    items = {str(item["metadata"]["name"]): item for item in world.tenants or ()}
    seen = world.held_to(items.values()).seen()
    limits = seen.store.desk.limits()
    activity = activity_by_tenant(seen.store.desk, world.workloads if world.kueue else None)
    every = tenant_accounts(limits.shares, limits.capacity, activity, enforced=world.enforced)
    accounts = tuple(account for account in every if account.name not in seen.unreadable)
    live = world.kube is not None  # snapshots hold no status
    stale = {account.name: list(staleness(items[account.name], account)) if live else [] for account in accounts}
    amiss = queue_problems(world, accounts)
    if args.json:
        tenants = [{**account_json(account), "stale": stale[account.name]} for account in accounts]
        unreadable = [{"name": name, "problems": [sentence]} for name, sentence in sorted(seen.unreadable.items())]
        print(json.dumps({"tenants": [*tenants, *unreadable], "kueue": amiss, "notes": list(world.notes)}, indent=2))
        return 0
    print_accounts(accounts, WITH_KUEUE if world.kueue else COLUMNS, "Tenants")
    hard = [f"✗ namespace {name}: {text}" for name, quota in limits.hard.items() for text in quota.problems]
    for line in (*_sentences(accounts, seen.unreadable), *hard, *_drifts(accounts)):
        say(line)
    for name, sentences in stale.items():
        for sentence in sentences:
            say(f"! {name}: {sentence}")
    for sentence in (*amiss, *world.notes):
        say(f"! {sentence}")
    if not items and not world.notes:
        say("no TenantQuota: no tenant is limited")
    return 0


def staleness(item: Json, account: TenantAccount) -> Iterable[str]:
    """Where the object's own status differs from what was counted now: its controller is late, or not running."""
    status = at(item, "status")
    if not status:
        yield "its status was never written; is the scheduler running, and does it lead?"
        return
    observed, generation = status.get("observedGeneration"), item["metadata"].get("generation")
    if observed != generation:
        yield f"its status is of generation {observed}, the object of {generation}"
    try:
        written = {entry.slug: entry for entry in parse_account(item).classes}
    except WireError:
        return
    for entry in account.classes:
        said = written.pop(entry.slug, None)
        if said is None:
            yield f"its status does not know {entry.model}"
        else:
            yield from _stale_class(said, entry)
    for gone in written.values():
        yield f"its status still has {gone.model}"


def queue_problems(world: World, accounts: tuple[TenantAccount, ...]) -> list[str]:
    """Queues that Kueue does not use, and queues whose own status says other numbers than their workloads."""
    queues = {str(q["metadata"]["name"]): q for q in world.managed or () if q["kind"] == "ClusterQueue"}
    found = []
    for account in accounts:
        queue = queues.get(account.name)
        if not world.kueue or world.managed is None or not account.classes:
            continue
        if queue is None:
            found.append(f"tenant {account.name} has no ClusterQueue: apply it, or let the controller do so")
            continue
        active = at(kueue.conditions_of(queue), "Active")
        if active.get("status") == "False":
            found.append(f"ClusterQueue {account.name} is not active: {active.get('message', '')}")
        found += _unlike_workloads(queue, account, world)
    return found


def _unlike_workloads(queue: Json, account: TenantAccount, world: World) -> Iterable[str]:
    reported = kueue.parse_flavor_usage(at(queue, "status"), "flavorsReservation", world.names)
    for entry in account.classes:
        said, reserved = reported.get(entry.slug, (NOTHING, NOTHING))[0], entry.reserved or NOTHING
        if said != reserved:
            yield (
                f"ClusterQueue {account.name} says {amount_text(said)} of {entry.slug}, its workloads reserve "
                f"{amount_text(reserved)}: Kueue's status lags a second or two; longer is a fault"
            )


def _sentences(accounts: tuple[TenantAccount, ...], unreadable: Mapping[str, str]) -> Iterable[str]:
    for account in accounts:
        yield from (f"✗ {account.name}: {sentence}" for sentence in account.problems)
        yield from (f"! {account.name}: {text}: all promises together exceed the cards" for text in shrunk(account))
        yield from (f"… {sentence}" for sentence in account.waiting)
    yield from (f"✗ {name}: {sentence}" for name, sentence in sorted(unreadable.items()))


def _drifts(accounts: tuple[TenantAccount, ...]) -> Iterable[str]:
    for account in accounts:
        for entry in account.classes:
            if entry.drift:
                yield (
                    f"✗ {account.name}: Kueue's use and the grants differ by {amount_text(entry.drift)} of {entry.slug}"
                    " (more than 0: admitted and not held; less: held and not admitted)"
                )


def _stale_class(said: ClassAccount, entry: ClassAccount) -> Iterable[str]:
    for field in COMPARED:
        one, other = getattr(said, field), getattr(entry, field)
        for name in DIMENSIONS:
            before, now = _of(one, name), _of(other, name)
            if before != now:
                yield f"its status says {field} {_show(before)} {UNITS[name]} of {entry.model}, it is {_show(now)}"


def _of(value: Amount | Bound, name: str) -> int | None:
    number: int | None = getattr(value, name)
    return number


def _show(value: int | None) -> str:
    return "unlimited" if value is None else show(value)
