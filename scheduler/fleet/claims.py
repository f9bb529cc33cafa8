"""Workloads whose pods ask by ResourceClaims: what they ask for, which cards answer it, what is handed over.

A pod's claims are made from templates; an extended resource of Kerf's for whole cards is a claim, too.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.device_ask import ClaimTemplate, DeviceAsk, DeviceOption
from kerf.values.fleet import FleetWorkload
from kerf.values.offer import equal_part, most_of
from kerf.values.policy import Defaults
from kerf.values.selector import DeviceFacts, holds
from kerf.values.slicing import WHOLE
from kerf.values.units import MIB, parse_whole
from kerf.wire.claim_requests import MOST_DEVICES, Classes, class_of_resource, known_classes
from kerf.wire.claim_specs import on_model, parse_claim_spec
from kerf.wire.devices import DRIVER, attribute_text, can_be_claimed
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.resources import containers_of
from scheduler.core.state import CardState
from scheduler.solver.fleet.problem import Piece

API = "/apis/resource.k8s.io/v1"
TEMPLATES = f"{API}/resourceclaimtemplates"
_WHERE = "spec.template.spec"


@dataclass(frozen=True, slots=True)
class Claimable:
    """What templates refer to. `template` and `claim` look one up by its name; None where there is none."""

    template: Callable[[str], Json | None]
    claim: Callable[[str], Json | None] | None = None
    """None: a fleet hands over templates alone."""
    classes: Classes = field(default_factory=known_classes)

    def class_of(self, resource: str) -> str:
        """The class that an extended resource is for; empty for any other."""
        return class_of_resource(resource, self.classes)


def asks_by_claims(one: FleetWorkload, known: Claimable) -> bool:
    """Whether the pods of a workload ask for devices by claims, of whatever driver."""
    spec = at(one.template, "spec")
    limits = (name for container, _ in containers_of(spec) for name in _amounts(container))
    return bool(spec.get("resourceClaims")) or any(map(known.class_of, limits))


def with_claims(one: FleetWorkload, known: Claimable) -> FleetWorkload:
    """The workload with what its claims ask for. Raises WireError for what a plan cannot count.

    Extended resources of whole cards become claims in its template, so that a model can be demanded of them.
    """
    if not asks_by_claims(one, known):
        return one
    if one.queue:
        fix = "leave out spec.queue: MultiKueue takes no templates of claims to another cluster"
        raise WireError("spec.queue", one.queue, fix)
    sizes = next((each for each in one.accepts if each.memory_mib is not None or each.cores is not None), None)
    if sizes is not None:
        fix = "leave out memoryMiB and cores: its ResourceClaimTemplate says how much a claim asks for"
        raise WireError("spec.accepts", sizes.name, fix)
    template, made = _without_resources(one.template, known)
    claims = (*_listed(one, known), *made)
    devices = tuple(
        ask
        for claim in claims
        for ask in parse_claim_spec(claim.spec, f"{_WHERE}.resourceClaims[{claim.name}]", known.classes)
    )
    return replace(one, template=template, claims=claims, devices=devices)


def _listed(one: FleetWorkload, known: Claimable) -> Iterator[ClaimTemplate]:
    for i, ref in enumerate(items_at(one.template, "spec", "resourceClaims")):
        own, where = text_at(ref, "name"), f"{_WHERE}.resourceClaims[{i}]"
        shared = text_at(ref, "resourceClaimName")
        if shared:
            if known.claim is None or one.replicas * one.group_size > 1:
                fix = "write resourceClaimTemplateName: a claim of Kerf's cards belongs to one pod"
                raise WireError(f"{where}.resourceClaimName", shared, fix)
            yield ClaimTemplate(own, at(_found(known.claim(shared), "ResourceClaim", shared, where), "spec"))
            continue
        name = text_at(ref, "resourceClaimTemplateName")
        found = _found(known.template(name), "ResourceClaimTemplate", name, where)
        yield ClaimTemplate(own, at(found, "spec", "spec"), at(found, "spec", "metadata"))


def _found(item: Json | None, kind: str, name: str, where: str) -> Json:
    if item is None:
        raise WireError(f"{where}.{kind[0].lower()}{kind[1:]}Name", name, f"there is no {kind} of that name: create it")
    return item


def _without_resources(template: Mapping[str, Any], known: Claimable) -> tuple[dict[str, Any], list[ClaimTemplate]]:
    """The template with a claim in place of each container's whole cards by extended resource, and these claims."""
    spec, made, lists = at(template, "spec"), list[ClaimTemplate](), {}
    for part in ("initContainers", "containers"):
        changed = []
        for container in items_at(spec, part):
            counts = {name: n for name, n in _amounts(container).items() if known.class_of(name)}
            mine = [_claim(f"{text_at(container, 'name')[:50]}-{i}", name, n, known)
                    for i, (name, n) in enumerate(sorted(counts.items()))]  # fmt: skip
            changed.append(_claiming(container, counts, [claim.name for claim in mine]))
            made += mine
        if changed:
            lists[part] = changed
    refs = [*items_at(spec, "resourceClaims"), *({"name": c.name, "resourceClaimTemplateName": ""} for c in made)]
    if not made:
        return dict(template), []
    return {**template, "spec": {**spec, **lists, "resourceClaims": refs}}, made


def _claim(own: str, resource: str, amount: object, known: Claimable) -> ClaimTemplate:
    try:
        count = parse_whole(amount, most=MOST_DEVICES)
    except ValueError as error:
        raise WireError(
            f"{_WHERE}.containers", f"{resource}: {amount}", f"write a number of cards ({error})"
        ) from error
    exactly = {"deviceClassName": known.class_of(resource), "count": count}
    return ClaimTemplate(own, {"devices": {"requests": [{"name": "card", "exactly": exactly}]}})


def _claiming(container: Json, dropped: Mapping[str, Any], names: Sequence[str]) -> Json:
    if not dropped:
        return container
    resources = at(container, "resources")
    kept = {
        key: {name: n for name, n in at(resources, key).items() if name not in dropped}
        for key in ("limits", "requests")
        if key in resources
    }
    claims = [*(resources.get("claims") or ()), *({"name": name} for name in names)]
    return {**container, "resources": {**resources, **kept, "claims": claims}}


def _amounts(container: Json) -> dict[str, Any]:
    return {**at(container, "resources", "requests"), **at(container, "resources", "limits")}


# ---- cards
def takes_claims(state: CardState, cordoned: Sequence[str]) -> bool:
    """Whether claims may get room of the card."""
    card = state.card
    return card.allocator is Allocator.DRA and card.healthy and card.id not in cordoned and can_be_claimed(card)


def pieces_of(devices: Sequence[DeviceAsk], card: Card, defaults: Defaults) -> tuple[Piece, ...] | None:
    """What one pod's claims take on cards such as this one; None where they cannot be answered."""
    pieces = []
    for ask in devices:
        found = next(filter(None, (_piece(option, card, defaults) for option in ask.options)), None)
        if found is None:
            return None
        pieces.append(found)
    return tuple(pieces)


def _piece(option: DeviceOption, card: Card, defaults: Defaults) -> Piece | None:
    """A card lists its shares before itself as a whole, and its instances from the smallest on."""
    if card.mig is not None:
        return next(filter(None, (_instance(option, card, i) for i in range(len(_offers(card))))), None)
    most_mib, most_cores = most_of(card)
    memory = option.memory_mib or min(defaults.memory_mib or equal_part(card), most_mib)
    cores = min(defaults.cores, most_cores) if option.cores is None else option.cores
    if (
        memory <= most_mib
        and cores <= most_cores
        and _selects(option, _facts(card, "slice", card.memory_mib, card.cores))
    ):
        return Piece(memory, cores, option.count)
    whole = _facts(card, "card", card.factory_memory_mib, WHOLE)
    enough = (option.memory_mib or 0) <= card.factory_memory_mib and (option.cores or 0) <= WHOLE
    return Piece(most_mib, most_cores, option.count, alone=True) if enough and _selects(option, whole) else None


def _offers(card: Card) -> Sequence[Any]:
    return getattr(card.slicing, "offers", ())


def _instance(option: DeviceOption, card: Card, i: int) -> Piece | None:
    size = _offers(card)[i]
    if option.count > 1 or size.memory_mib < (option.memory_mib or 0) or size.cores < (option.cores or 0):
        return None
    facts = _facts(card, "mig", size.memory_mib, size.cores, profile=size.name)
    return Piece(size.memory_mib, size.cores) if _selects(option, facts) else None


def _selects(option: DeviceOption, facts: DeviceFacts) -> bool:
    return all(holds(term, facts) for term in option.selectors)


def _facts(card: Card, kind: str, memory_mib: int, cores: int, **more: str) -> DeviceFacts:
    texts = {"kind": kind, "model": attribute_text(card.model), "vendor": card.vendor, **more}
    attributes: dict[str, Any] = {**texts, "mig": card.mig is not None, "nvlink": bool(card.links)}
    capacity = {"memory": Fraction(memory_mib * MIB), "cores": Fraction(cores)}
    slots = {"slots": Fraction(card.slots)} if kind == "slice" else {}
    return DeviceFacts(DRIVER, attributes, capacity | slots, shared=kind == "slice")


# ---- what is handed over
def handed_over(
    one: FleetWorkload, model: str, labels: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """The templates of claims for cards of one model, by the path to apply each to, and the pod's references to them.

    A template cannot change, so another content is another name.
    """
    found, refs = {}, []
    for claim in one.claims:
        spec = {"spec": on_model(claim.spec, model)} | ({"metadata": dict(claim.metadata)} if claim.metadata else {})
        digest = hashlib.sha256(json.dumps([spec, dict(labels)], sort_keys=True, default=str).encode()).hexdigest()[:10]
        name = f"{one.name}-{claim.name}-{digest}"
        found[f"{API}/namespaces/{one.namespace}/resourceclaimtemplates/{name}"] = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": name, "namespace": one.namespace, "labels": dict(labels)},
            "spec": spec,
        }
        refs.append({"name": claim.name, "resourceClaimTemplateName": name})
    return found, refs
