"""Which claims a pod has: those that exist, and those that Kubernetes' controllers would make for it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerf.values.quota import ByClaims
from kerf.values.units import parse_whole
from kerf.wire.claim_requests import Classes, class_of_resource
from kerf.wire.claims import claim_names
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.resources import containers_of


class NoClaim(ValueError):
    """Why a pod has no claims to look at: the message is for people."""


@dataclass(frozen=True, slots=True)
class Claiming:
    """A pod with its claims, by their names. `made` are those that nobody has stored yet."""

    pod: Json
    claims: tuple[Json, ...]
    made: frozenset[str] = frozenset()
    spec: Json | None = None
    """The pod's spec without the extended resources that became claims."""


@dataclass(frozen=True, slots=True)
class _Use:
    """So many of an extended resource in a container, which Kubernetes turns into a request for a class."""

    container: str
    resource: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Objects:
    """What the claims of pods are made of, each by `namespace/name`; classes by name."""

    claims: Mapping[str, Json]
    templates: Mapping[str, Json]
    classes: Classes
    tenants: tuple[tuple[str, bool, frozenset[str]], ...] = ()
    """(tenant, whether it may have claims, namespaces), where quota is kept."""

    def claiming(self, pod: Json) -> Claiming | None:
        """The pod with its claims; None for a pod without any. Raises NoClaim."""
        spec, uses = at(pod, "spec"), self._resources(pod)
        if not uses and not items_at(spec, "resourceClaims"):
            return None
        namespace, made = text_at(pod, "metadata", "namespace") or "default", dict[str, Json]()
        statuses, names = [], dict[str, str]()
        for ref in items_at(spec, "resourceClaims"):
            name, template = text_at(ref, "name"), text_at(ref, "resourceClaimTemplateName")
            names[name] = claim_names(pod).get(name, "")
            if template and not names[name]:
                made_claim = self._from_template(pod, name, f"{namespace}/{template}")
                names[name] = text_at(made_claim, "metadata", "name")
                made[names[name]] = made_claim
                statuses.append({"name": name, "resourceClaimName": names[name]})
        _check_names(spec, names)
        status: dict[str, Any] = {**at(pod, "status")}
        if statuses:
            status["resourceClaimStatuses"] = [*items_at(status, "resourceClaimStatuses"), *statuses]
        if uses and "" not in claim_names(pod):
            claim, mapped = _extended(pod, uses)
            made[text_at(claim, "metadata", "name")] = claim
            status["extendedResourceClaimStatus"] = {
                "resourceClaimName": text_at(claim, "metadata", "name"),
                "requestMappings": mapped,
            }
        known = {**pod, "status": status}
        claims = tuple(made.get(name) or self._stored(namespace, name) for name in claim_names(known).values())
        words = {use.resource for use in uses}
        return Claiming(known, claims, frozenset(made), _without(spec, words))

    def refusal(self, namespace: str) -> str:
        """Why the API server gives a namespace no device of gpu.kerf.dev; empty where it does."""
        for tenant, allowed, namespaces in self.tenants:
            if namespace in namespaces and not allowed:
                return (
                    f"namespace {namespace} belongs to tenant {tenant}, whose TenantQuota does not say claims: allow: "
                    "ask by extended resources (nvidia.com/gpumem), or let an administrator write it"
                )
        return ""

    def with_claims(self, claims: Iterable[Json]) -> "Objects":
        """The store once these claims are stored."""
        return replace(self, claims={**self.claims, **{_key(claim): claim for claim in claims}})

    def allocated_on(self, node: str) -> tuple[Json, ...]:
        """Claims that hold devices of a node."""
        return tuple(claim for claim in self.claims.values() if node_of(claim) == node)

    # ---- inside
    def _stored(self, namespace: str, name: str) -> Json:
        claim = self.claims.get(f"{namespace}/{name}")
        if claim is None:
            raise NoClaim(f"claim {name} does not exist in namespace {namespace}")
        return claim

    def _from_template(self, pod: Json, own: str, key: str) -> Json:
        template = self.templates.get(key)
        if template is None:
            namespace, _, name = key.partition("/")
            raise NoClaim(f"ResourceClaimTemplate {name} does not exist in namespace {namespace}")
        return _claim(pod, own, at(template, "spec", "spec"))

    def _resources(self, pod: Json) -> list[_Use]:
        """The extended resources that a class stands for."""
        found = []
        for container, _ in containers_of(at(pod, "spec")):
            name = text_at(container, "name")
            for resource, value in at(container, "resources", "limits").items():
                kind = class_of_resource(resource, self.classes) if "/" in resource else ""
                if not kind:
                    continue
                try:
                    count = parse_whole(value)
                except ValueError as error:
                    raise NoClaim(f"container {name}: {resource}: {error}") from error
                found += [_Use(name, resource, kind, count)] if count else []
        return found


def node_of(claim: Json) -> str:
    """The node whose devices an allocated claim holds."""
    results = items_at(claim, "status", "allocation", "devices", "results")
    return next((text_at(result, "pool") for result in results if result.get("driver") == "gpu.kerf.dev"), "")


def tenants_of(items: Iterable[Json]) -> tuple[tuple[str, bool, frozenset[str]], ...]:
    """The tenants of TenantQuotas."""
    return tuple(
        (
            text_at(item, "metadata", "name"),
            text_at(item, "spec", "claims") == ByClaims.ALLOW.value,
            frozenset(map(str, at(item, "spec").get("namespaces") or ())),
        )
        for item in items
    )


def by_key(items: Iterable[Json]) -> dict[str, Json]:
    """Objects by `namespace/name`."""
    return {_key(item): item for item in items}


def _key(item: Json) -> str:
    return f"{text_at(item, 'metadata', 'namespace') or 'default'}/{text_at(item, 'metadata', 'name')}"


def _check_names(spec: Json, names: Mapping[str, str]) -> None:
    for container, _ in containers_of(spec):
        for ref in items_at(container, "resources", "claims"):
            if text_at(ref, "name") not in names:
                raise NoClaim(
                    f"container {text_at(container, 'name')} names claim {text_at(ref, 'name')!r}, which is none of "
                    "the pod's spec.resourceClaims"
                )
    for own, name in names.items():
        if not name:
            raise NoClaim(f"spec.resourceClaims {own!r}: write resourceClaimName or resourceClaimTemplateName")


def _extended(pod: Json, uses: list[_Use]) -> tuple[Json, list[dict[str, str]]]:
    """The claim that kube-scheduler makes for extended resources."""
    requests, mapped = [], []
    for i, use in enumerate(uses):
        name = f"request-{i}"
        requests.append({"name": name, "exactly": {"deviceClassName": use.kind, "count": use.count}})
        mapped.append({"containerName": use.container, "resourceName": use.resource, "requestName": name})
    return _claim(pod, "extended-resources", {"devices": {"requests": requests}}), mapped


def _claim(pod: Json, own: str, spec: Json) -> Json:
    meta = at(pod, "metadata")
    name = f"{text_at(meta, 'name') or text_at(meta, 'generateName')}-{own}"
    namespace = text_at(meta, "namespace") or "default"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace, "uid": f"{text_at(meta, 'uid')}/{own}"},
        "spec": spec,
    }


def _without(spec: Json, resources: set[str]) -> Json:
    """The spec without these resources: no device plugin offers them."""
    if not resources:
        return spec

    def part(container: Json) -> Json:
        own = at(container, "resources")
        kept = {
            kind: {name: value for name, value in at(own, kind).items() if name not in resources}
            for kind in ("limits", "requests")
        }
        return {**container, "resources": {**own, **kept}}

    groups = ("initContainers", "containers")
    return {**spec, **{group: [part(each) for each in items_at(spec, group)] for group in groups if group in spec}}
