"""What every gateway is given: a route for each model, and its targets with their weights.

A target's weight is the share of cards of its healthy replicas. A replica on a card that people cordoned gets nothing
as long as another one of its model serves; one whose card is lost, that leaves, or that is not ready, gets nothing at
all, even if it is the last one.

Where the settings name namespaces, these share the names of their models. Otherwise a model is `NAMESPACE/MODEL`, so
that no namespace can take requests that are meant for another.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from kerf.values.gateways import Drain, GatewaySettings, Per, Plan, Replica, Route, ServicePort, Target
from kerf.wire.json import Json, at, text_at

MOST_NAME = 40
MOST_MODEL = 253
MOST_WEIGHT = 1_000_000
"""The greatest that Gateway API takes."""
_ODD = re.compile(r"[^a-z0-9]+")
Serving = tuple[Replica, str]
"""A replica, and the name by which its engine serves a model."""


def plan(
    replicas: Iterable[Replica],
    settings: GatewaySettings,
    services: Sequence[ServicePort] = (),
    port_of: Callable[[Replica, str], int] = lambda _one, _name: 0,
) -> Plan:
    """The plan. `port_of` is the number of a replica's port by name, for Services that name one."""
    everyone = list(replicas)
    chosen = [one for one in everyone if _is_chosen(one, settings)]
    by_model: dict[str, list[Serving]] = defaultdict(list)
    for one in chosen:
        for served in one.models:
            by_model[served if settings.namespaces else f"{one.namespace}/{served}"].append((one, served))
    routes, routed, left_out, mixed = [], set[str](), list[str](), list[str]()
    ways = _Ways(services, everyone, port_of)
    for model, several in sorted(by_model.items()):
        if len(model) > MOST_MODEL or not model.isprintable():
            left_out.append(f"{model[:80]!r}: write a model's name of at most {MOST_MODEL} printable characters")
            continue
        live = _live(several)
        if settings.per is Per.SERVICE:
            targets, missing = _by_service(model, live, ways)
            left_out += missing
        else:
            targets = tuple(_target(model, *each) for each in live)
        if not live:
            left_out.append(f"{model}: none of its {len(several)} replicas is ready on a healthy card")
        mixed += _mixed(model, several)
        routes.append(Route(model, object_name(model), targets, frozenset(one.uid for one, _ in several)))
        routed |= {uid for target in targets for uid in target.uids}
    served_by = frozenset(one.uid for one in chosen)
    return Plan(tuple(routes), frozenset(routed), served_by, tuple(left_out), tuple(mixed))


def object_name(*parts: str) -> str:
    """A name that Kubernetes takes, unique for these parts, and that people recognise."""
    text = "/".join(parts)
    words = _ODD.sub("-", text.lower())[-MOST_NAME:].strip("-")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"kerf-{words}-{digest}" if words else f"kerf-{digest}"


def _is_chosen(one: Replica, settings: GatewaySettings) -> bool:
    wanted = not settings.namespaces or one.namespace in settings.namespaces
    return wanted and set(settings.pods) <= set(one.labels)


def _live(several: Iterable[Serving]) -> list[Serving]:
    able = [each for each in several if each[0].ready and each[0].address and each[0].drain is not Drain.LOST]
    return [each for each in able if each[0].drain is Drain.NONE] or able


def _target(model: str, one: Replica, served: str) -> Target:
    host = f"[{one.address}]" if ":" in one.address else one.address
    return Target(
        name=object_name(model, one.namespace, one.name),
        namespace=one.namespace,
        about=f"{one.namespace}/{one.name}",
        host=host,
        port=one.port,
        served=served,
        priced=one.models[0],
        weight=min(one.share, MOST_WEIGHT),
        uids=(one.uid,),
        selector=one.labels,
    )


def _mixed(model: str, several: Iterable[Serving]) -> list[str]:
    """Whether replicas of one name load different models, as in the middle of a roll-out, or by mistake."""
    by_source = {one.source: f"{one.namespace}/{one.name}" for one, _ in several if one.source}
    if len(by_source) < 2:
        return []
    found = ", ".join(f"{source} ({where})" for source, where in sorted(by_source.items()))
    return [f"{model}: its replicas load different models, and any of them answers: {found}"]


@dataclass(frozen=True, slots=True)
class _Ways:
    """The Services, and all replicas that they may lead to."""

    services: Sequence[ServicePort]
    everyone: Sequence[Replica]
    port_of: Callable[[Replica, str], int]
    _misled: dict[tuple[ServicePort, str], Replica | None] = field(default_factory=dict)

    def to(self, one: Replica, served: str) -> tuple[ServicePort | None, str]:
        """The first Service that leads to the replica and to no other model; otherwise why there is none."""
        why = f"no Service leads to {one.namespace}/{one.name} at port {one.port}"
        for service in self.services:
            if not self._leads(service, one):
                continue
            other = self._other(service, served)
            if other is None:
                return service, ""
            why = (
                f"Service {service.namespace}/{service.name} leads to {one.namespace}/{one.name}, and also to "
                f"{other.name}, which does not serve it there: give each model a Service of its own"
            )
        return None, why

    def _leads(self, service: ServicePort, one: Replica) -> bool:
        return _selects(service, one) and self._port(service, one) == one.port

    def _other(self, service: ServicePort, served: str) -> Replica | None:
        """A replica to which the Service leads, too, and that does not serve the model there."""
        if (service, served) not in self._misled:
            found = (each for each in self.everyone if self._misleads(service, each, served))
            self._misled[service, served] = next(found, None)
        return self._misled[service, served]

    def _misleads(self, service: ServicePort, one: Replica, served: str) -> bool:
        return _selects(service, one) and (served not in one.models or self._port(service, one) != one.port)

    def _port(self, service: ServicePort, one: Replica) -> int:
        return int(service.target) if service.target.isdigit() else self.port_of(one, service.target)


def _selects(service: ServicePort, one: Replica) -> bool:
    return service.namespace == one.namespace and set(service.selector) <= set(one.labels)


def _by_service(model: str, live: Sequence[Serving], ways: _Ways) -> tuple[tuple[Target, ...], list[str]]:
    """A target for each Service that leads to replicas, each replica through the first one; and who has none."""
    found: dict[tuple[str, str, int], Target] = {}
    missing = []
    for one, served in live:
        service, why = ways.to(one, served)
        if service is None:
            missing.append(f"{model}: {why}")
            continue
        port = one.port if service.headless else service.port
        key = (service.namespace, service.name, port)
        before = found.get(key)
        if before is not None:
            found[key] = replace(
                before, weight=min(before.weight + one.share, MOST_WEIGHT), uids=(*before.uids, one.uid)
            )
            continue
        found[key] = Target(
            name=object_name(model, *map(str, key)),
            namespace=service.namespace,
            about=f"Service {service.namespace}/{service.name}",
            host=f"{service.name}.{service.namespace}.svc",
            port=port,
            served=served,
            priced=one.models[0],
            weight=min(one.share, MOST_WEIGHT),
            uids=(one.uid,),
        )
    return tuple(found.values()), missing


def pod_ports(pods: Iterable[Json], named: Callable[[Json, str], int]) -> Callable[[Replica, str], int]:
    """The `port_of` of these pods."""
    by_uid = {text_at(at(pod, "metadata"), "uid"): pod for pod in pods}
    return lambda one, name: named(by_uid[one.uid], name) if one.uid in by_uid else 0
