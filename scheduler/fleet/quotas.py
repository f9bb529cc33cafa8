"""Split tenants, written: each cluster's part of a TenantQuota, and the one status on the manager cluster."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kerf.kube.client import Json, Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.values.fleet import Phase
from kerf.wire.errors import WireError
from kerf.wire.fleet import LABEL_MANAGER, slug
from kerf.wire.json import at
from kerf.wire.quota import PATH, parse_tenant
from scheduler.fleet.handover import FIELD_MANAGER
from scheduler.fleet.tenants import TenantPart, is_split, render_part, split, summed, waiting_for
from scheduler.fleet.view import View

_LOG = logging.getLogger("kerf.fleet")


class SplitTenants:
    """Remembers each cluster's TenantQuotas, so that the use in a cluster that is unreachable still counts."""

    def __init__(self, kube: Kube, fleet: str) -> None:
        self._kube = kube
        self._fleet = fleet
        self._seen: dict[str, dict[str, Json]] = {}

    def run_once(
        self, views: Sequence[View], kubes: Mapping[str, Kube], cost: Callable[[tuple[str, ...]], float]
    ) -> None:
        """Write the parts and the statuses. `cost` is what a tenant's namespaces cost an hour. Raises KubeError."""
        try:
            documents = [item for item in self._kube.list(PATH)[0] if is_split(item)]
        except NotFound:
            return
        if not documents and not self._seen:
            return
        reachable = [view for view in views if view.record.phase in (Phase.LIVE, Phase.RESTING) and view.name in kubes]
        for view in reachable:
            self._look(view.name, kubes[view.name])
        self._seen = {name: seen for name, seen in self._seen.items() if name in {view.name for view in views}}
        wanted: set[str] = set()
        for item in documents:
            wanted.add(str(item["metadata"]["name"]))
            try:
                tenant = parse_tenant(item)
            except WireError as error:
                _LOG.warning("tenant %s: %s; its parts stay as they are", item["metadata"]["name"], error)
                continue
            parts = split(tenant, views)
            there = {view.name: self._ours(view.name, tenant.name) for view in views}
            self._write_parts(parts, there, kubes, {view.name for view in reachable})
            lost = [view.name for view in views if view not in reachable]
            self._write_status(item, {"fleet": summed(there, cost(tenant.namespaces), lost)})
        self._remove(wanted, kubes, {view.name for view in reachable})

    def _look(self, cluster: str, kube: Kube) -> None:
        try:
            self._seen[cluster] = {str(item["metadata"]["name"]): item for item in kube.list(PATH)[0]}
        except NotFound:
            self._seen[cluster] = {}
        except KubeError as error:
            _LOG.warning("cluster %s: %s", cluster, error)

    def _ours(self, cluster: str, tenant: str) -> Json | None:
        """The part there. A TenantQuota of that name that people wrote is theirs and stays."""
        item = self._seen.get(cluster, {}).get(tenant)
        return item if item is not None and self._owns(item) else None

    def _owns(self, item: Json) -> bool:
        return bool(at(item, "metadata", "labels").get(LABEL_MANAGER) == slug(self._fleet))

    def _write_parts(
        self,
        parts: Sequence[TenantPart],
        there: Mapping[str, Json | None],
        kubes: Mapping[str, Kube],
        reachable: set[str],
    ) -> None:
        shrinking = waiting_for([part for part in parts if part.cluster in reachable], there)
        for part in parts:
            name, item = part.tenant.name, there.get(part.cluster)
            foreign = item is None and name in self._seen.get(part.cluster, {})
            if part.cluster not in reachable or foreign:
                continue
            body = render_part(part, self._fleet)
            grows = item is None or not waiting_for([part], {part.cluster: item})
            if (shrinking and grows) or (item is not None and at(item, "spec") == body["spec"]):
                continue
            query = {"fieldManager": FIELD_MANAGER, "force": "true"}
            try:
                kubes[part.cluster].patch(f"{PATH}/{name}", body, "apply", query)
            except KubeError as error:
                _LOG.warning("cluster %s: TenantQuota %s: %s", part.cluster, name, error)

    def _write_status(self, item: Json, status: dict[str, Any]) -> None:
        if at(item, "status").get("fleet") == status["fleet"]:
            return
        try:
            self._kube.patch(f"{PATH}/{item['metadata']['name']}/status", {"status": status})
        except KubeError as error:
            _LOG.warning("tenant %s: %s", item["metadata"]["name"], error)

    def _remove(self, wanted: set[str], kubes: Mapping[str, Kube], reachable: set[str]) -> None:
        """Parts of tenants that are split no more."""
        for cluster in reachable:
            for name, item in self._seen.get(cluster, {}).items():
                if name not in wanted and self._owns(item):
                    try:
                        kubes[cluster].delete(f"{PATH}/{name}")
                    except KubeError as error:
                        _LOG.warning("cluster %s: TenantQuota %s: %s", cluster, name, error)
