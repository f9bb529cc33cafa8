"""Pods that serve models, from what Kubernetes and Kerf's inventory say of them.

A pod serves if one of its containers is vLLM or SGLang, or if its annotation `kerf.dev/engine-metrics` says so. Its
models are those that its arguments name. A pod that is named in the catalogue (`kerf.dev/model`) and has no such
argument serves the row's repository. Of a LeaderWorkerSet's group only the leader answers, with the share of all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kerf.metering.use import share
from kerf.pricing.prices import PriceList
from kerf.sizing.catalogue import Catalogue
from kerf.values.device import Card
from kerf.values.gateways import Drain, Replica, ServicePort
from kerf.values.grant import CardUse, card_uses
from kerf.values.health import State
from kerf.values.node import Node
from kerf.values.vendor import Vendor
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import CardsOf, cards_of, is_finished, parse_holding
from kerf.wire.subject import (
    MODEL,
    SERVING_PORT,
    adapter_names,
    misread_port,
    served_names,
    serving_port,
    source_of,
    workload_of,
)

_LWS = "leaderworkerset.sigs.k8s.io"
_WORKER, _GROUP, _SET = f"{_LWS}/worker-index", f"{_LWS}/group-index", f"{_LWS}/name"
WHOLE = 1000
"""The share of a whole H100."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a pod's share and health are read from."""

    nodes: Sequence[Node]
    vendors: tuple[Vendor, ...]
    prices: PriceList
    catalogue: Catalogue


def replicas(pods: Iterable[Json], fleet: Fleet) -> tuple[Replica, ...]:
    """Every pod that serves, by namespace and name."""
    cards = {card.id: (card, node) for node in fleet.nodes for card in node.cards}
    listed = [pod for pod in pods if not is_finished(pod)]
    of_node = cards_of(fleet.nodes)
    held = {text_at(pod, "metadata", "uid"): _uses(pod, fleet.vendors, of_node) for pod in listed}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for pod in listed:
        if group := _group(pod):
            groups[group].append(text_at(pod, "metadata", "uid"))
    found = []
    for pod in listed:
        one = _replica(pod, fleet.catalogue)
        if one is not None and _leads(pod):
            uses = [held[uid] for uid in groups.get(_group(pod), [one.uid])]
            found.append(_weighed(one, uses, cards, fleet.prices))
    return tuple(sorted(found, key=lambda one: (one.namespace, one.name)))


def service_ports(services: Iterable[Json]) -> tuple[ServicePort, ...]:
    """Every port of the Services that select pods, by namespace and name; headless ones last."""
    found = []
    for service in services:
        spec = at(service, "spec")
        selector = tuple(sorted((key, str(value)) for key, value in at(spec, "selector").items()))
        if not selector or spec.get("type") == "ExternalName":
            continue
        for port in items_at(spec, "ports"):
            number = port.get("port")
            if isinstance(number, int) and port.get("protocol", "TCP") == "TCP":
                target = str(port.get("targetPort") or number)
                meta = at(service, "metadata")
                where = text_at(meta, "namespace") or "default"
                headless = spec.get("clusterIP") == "None"
                found.append(ServicePort(where, text_at(meta, "name"), number, target, selector, headless))
    return tuple(sorted(found, key=lambda one: (one.headless, one.namespace, one.name, one.port)))


def named_port(pod: Json, name: str) -> int:
    """The number of a container's port by its name; 0 where there is none."""
    for container in items_at(pod, "spec", "containers"):
        for port in items_at(container, "ports"):
            number = port.get("containerPort")
            if port.get("name") == name and isinstance(number, int):
                return number
    return 0


def mistaken(pods: Iterable[Json], catalogue: Catalogue) -> tuple[tuple[str, str], ...]:
    """(namespace, sentence) for each pod that says that it serves, and not how."""
    found = []
    for pod in pods:
        meta, written = at(pod, "metadata"), at(pod, "metadata", "annotations").get(SERVING_PORT)
        if written == "none" or is_finished(pod):
            continue
        namespace = text_at(meta, "namespace") or "default"
        where = f"pod {namespace}/{text_at(meta, 'name')}"
        if written is None:
            if port := misread_port(pod):
                found.append((namespace, f"{where}: --port {port} is no port: write its number as {SERVING_PORT}"))
            elif serving_port(pod) and not _models(pod, catalogue):
                fix = f"name one by {MODEL}, or keep gateways away by {SERVING_PORT}: none"
                found.append((namespace, f"{where}: its engine's arguments name no model: {fix}"))
        elif not serving_port(pod):
            fix = 'write a port from 1 to 65535, or "none"'
            found.append((namespace, f"{where}: {SERVING_PORT} {written!r}: {fix}"))
        elif not _models(pod, catalogue):
            found.append((namespace, f"{where} has {SERVING_PORT} and names no model: name one by {MODEL}"))
    return tuple(found)


def _replica(pod: Json, catalogue: Catalogue) -> Replica | None:
    port = serving_port(pod)
    models = _models(pod, catalogue)
    if not port or not models:
        return None
    meta = at(pod, "metadata")
    labels = tuple(sorted((key, value) for key, value in at(meta, "labels").items() if isinstance(value, str)))
    return Replica(
        namespace=text_at(meta, "namespace") or "default",
        name=text_at(meta, "name"),
        uid=text_at(meta, "uid"),
        workload=workload_of(pod),
        address=text_at(pod, "status", "podIP"),
        port=port,
        models=tuple(dict.fromkeys((*models, *adapter_names(pod)))),
        share=WHOLE,
        ready=_is_ready(pod),
        drain=Drain.LOST if meta.get("deletionTimestamp") else Drain.NONE,
        labels=labels,
        source=source_of(pod),
    )


def _models(pod: Json, catalogue: Catalogue) -> tuple[str, ...]:
    return served_names(pod) or _named(pod, catalogue)


def _named(pod: Json, catalogue: Catalogue) -> tuple[str, ...]:
    """By the catalogue: what an engine calls a model that its arguments do not name."""
    for found in (at(pod, "metadata", "labels"), at(pod, "metadata", "annotations")):
        name = text_at(found, MODEL).partition(";")[0].strip()
        if name:
            row = catalogue.find(name)
            return (row.repository if row else name,)
    return ()


def _is_ready(pod: Json) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True" for one in items_at(pod, "status", "conditions")
    )


def _leads(pod: Json) -> bool:
    return str(at(pod, "metadata", "labels").get(_WORKER, "0")) == "0"


def matters(pod: Json) -> bool:
    """Whether `replicas` reads the pod: it serves, or it is a member of a group that may."""
    return bool(serving_port(pod)) or _SET in at(pod, "metadata", "labels")


def _group(pod: Json) -> tuple[str, ...]:
    labels = at(pod, "metadata", "labels")
    if _SET not in labels or _GROUP not in labels:
        return ()
    return (text_at(pod, "metadata", "namespace"), str(labels[_SET]), str(labels[_GROUP]))


def _uses(pod: Json, vendors: tuple[Vendor, ...], cards: CardsOf) -> Mapping[str, CardUse]:
    try:
        holding = parse_holding(pod, vendors, cards)
    except WireError:
        return {}
    return card_uses(holding.grant, holding.stages) if holding else {}


def _weighed(
    one: Replica, uses: Iterable[Mapping[str, CardUse]], cards: Mapping[str, tuple[Card, Node]], prices: PriceList
) -> Replica:
    """With the share of its cards, each by the speed of its model, and with what their health means for it."""
    total, drain = 0.0, one.drain
    for held in uses:
        for card_id, use in held.items():
            known = cards.get(card_id)
            if known is None:
                continue
            card, node = known
            part, whole = share(use, card.factory_memory_mib)
            total += min(part / whole, 1.0) * prices.throughput(card.model)
            drain = _worse(drain, _drain(card, node))
    return replace(one, share=max(round(total * WHOLE), 1) if total else WHOLE, drain=drain)


def _drain(card: Card, node: Node) -> Drain:
    if card.health.state is State.CORDONED and card.health.moves:
        return Drain.LOST
    cordoned = card.id in node.cordoned or card.health.state is State.CORDONED
    return Drain.CORDONED if cordoned else Drain.NONE


def _worse(one: Drain, other: Drain) -> Drain:
    order = (Drain.NONE, Drain.CORDONED, Drain.LOST)
    return max(one, other, key=order.index)
