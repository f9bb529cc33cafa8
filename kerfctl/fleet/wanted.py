"""What the files of `kerf simulate --clusters` want: FleetWorkloads, and ordinary workloads as such."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from kerf.values.fleet import FleetWorkload
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.fleet import WORKLOAD, parse_workload
from kerf.wire.json import Json, at
from kerfctl.errors import CliError
from kerfctl.fleet.filed_claims import FiledClaims
from kerfctl.fleet.roles import Role, Units, units_of
from kerfctl.workloads.expand import key_of, owners_of
from kerfctl.workloads.kinds import DAEMON_SET, MAKERS, group_kind, is_read
from kerfctl.workloads.replica import NotRead, named
from scheduler.fleet.neighbours import pods_of
from scheduler.fleet.shapes import NoCards, Terms, read_template

Kind = tuple[str, str]
_FLEET: Kind = ("kerf.dev", WORKLOAD)


@dataclass(slots=True)
class Wanted:
    """The workloads that ask for cards, under names that no two share. Nothing is planned for the rest."""

    workloads: list[FleetWorkload] = field(default_factory=list)
    together: list[tuple[str, ...]] = field(default_factory=list)
    """Keys of workloads, one replica each, that have to be in one cluster: the roles of one object."""
    left_out: list[str] = field(default_factory=list)
    """A line for each object that makes pods, or that kerf does not know, and that is not read."""
    without_cards: list[str] = field(default_factory=list)
    """Kind and name of each workload that asks for no card."""


def wanted(items: Sequence[tuple[str, Json]], terms: Terms) -> Wanted:
    """Read the objects, each with the name of its file. What another of them owns counts with that. Raises CliError."""
    found, claims, seen = Wanted(), FiledClaims.of(items), set[str]()
    there = {key_of(item) for _, item in items}
    for path, item in items:
        key = group_kind(item)
        if any(owner in there for owner in owners_of(item)):
            continue
        try:
            for roles in _read(item, key, claims, terms, found):
                named_apart = [replace(one, name=_own_name(one, key[1], seen)) for one in roles]
                found.workloads += named_apart
                found.together += [tuple(one.key for one in named_apart)] if len(roles) > 1 else []
        except NotRead as error:
            found.left_out.append(f"not read: {key[1]} {named(item)}: {error}")
        except WireError as error:
            raise CliError(f"{path}: {key[1]} {named(item)}: {error}") from error
    alone, unread = claims.alone(item for _, item in items)
    found.workloads += [replace(one, name=_own_name(one, "ResourceClaim", seen)) for one in alone]
    found.left_out += unread
    return found


def _read(
    item: Json, key: Kind, claims: FiledClaims, terms: Terms, found: Wanted
) -> Iterator[tuple[FleetWorkload, ...]]:
    """The object as workloads, those that have to be in one cluster together. Raises WireError, and NotRead."""
    if key == _FLEET:
        one = claims.asked_by(parse_workload(item), key[1])
        for accept in (None, *one.accepts):
            read_template(one, accept, terms)
        yield (one,)
        return
    units = units_of(item)
    if units is None:
        found.left_out += [f"not read: {key[1]} {named(item)}"] if _makes_pods(key) else []
        return
    planned = [roles for each in units if (roles := _with_cards(item, each, claims, terms))]
    if units and not planned:
        found.without_cards.append(f"{key[1]} {named(item)}")
    for roles in planned:
        if len(roles) == 1:
            yield roles
        else:
            yield from (tuple(replace(role, replicas=1) for role in roles) for _ in range(roles[0].replicas))


def _makes_pods(key: Kind) -> bool:
    return key in MAKERS or key == DAEMON_SET or not is_read(key)


def _with_cards(item: Json, units: Units, claims: FiledClaims, terms: Terms) -> tuple[FleetWorkload, ...]:
    """A unit's roles that ask for cards; those that ask for the same are one."""
    found: dict[str, FleetWorkload] = {}
    for role in units.roles:
        try:
            one = claims.asked_by(_as_workload(item, role, units.count), group_kind(item)[1])
            ask = read_template(one, None, terms)
        except NoCards:
            continue
        spec = at(one.template, "spec")
        rules = [spec.get(key) for key in ("nodeSelector", "tolerations", "affinity")]
        beside = (pods_of(one).ports, at(one.template, "metadata", "labels") if at(spec, "affinity") else {})
        key = repr((ask.shape, one.devices, rules, beside))
        known = found.get(key)
        found[key] = one if known is None else replace(known, group_size=known.group_size + one.group_size)
    if len(found) == 1:
        return tuple(replace(one, name=named(item)) for one in found.values())
    return tuple(found.values())


def _as_workload(item: Json, role: Role, count: int) -> FleetWorkload:
    # Other kinds may have longer names than a FleetWorkload, names with dots, and larger groups.
    meta = {"name": "workload", "namespace": item["metadata"].get("namespace")}
    body = {"replicas": count, "template": role.template}
    one = parse_workload({"apiVersion": API_VERSION, "kind": WORKLOAD, "metadata": meta, "spec": body})
    name = f"{named(item)}/{role.word}" if role.word else named(item)
    return replace(one, name=name, group_size=role.pods)


def _own_name(one: FleetWorkload, kind: str, seen: set[str]) -> str:
    """A name that no other workload has: in Kubernetes each kind has names of its own."""
    names: Iterator[str] = (
        f"{one.name} ({kind})" if n == 1 else f"{one.name} ({kind} {n})" for n in range(1, len(seen) + 2)
    )
    name = one.name
    while f"{one.namespace}/{name}" in seen:
        name = next(names)
    seen.add(f"{one.namespace}/{name}")
    return name
