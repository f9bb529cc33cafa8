"""Objects of gateways: what is wanted is written by server-side apply, and what is no longer wanted is deleted."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kerf.gateways.litellm import NAME as LITELLM
from kerf.gateways.objects import CONFIG_MAP, KINDS, OWNER, Kind, Object, path_of
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.values.gateways import Gateway, GatewaySettings
from kerf.wire.json import Json, at, dumps, text_at

_LOG = logging.getLogger("kerf.gateways")
FIELD_MANAGER = "kerf-gateways"
MARK = "kerf.dev/gateway-written"
"""Annotation: a digest of what was written. What is left out since, such as a limit, differs by it alone."""
_QUERY = {"fieldManager": FIELD_MANAGER, "force": "true"}


class Applied:
    """The objects of the gateways, as this term knows them. Not safe from several threads."""

    def __init__(self, kube: Kube, count: Callable[[str, str], None]) -> None:
        self._kube = kube
        self._count = count
        self._there: dict[str, Json] = {}
        self._gateways: dict[str, Gateway] = {}

    def read(self, gateways: Iterable[Gateway], settings: GatewaySettings) -> None:
        """Read what there is of some gateways. A kind that is not served counts as empty. Raises KubeError."""
        for gateway in gateways:
            self._forget(gateway)
            for kind in KINDS[gateway]:
                for item in self._list(gateway, kind, settings):
                    path = kind.path(text_at(item, "metadata", "namespace"), text_at(item, "metadata", "name"))
                    self._there[path], self._gateways[path] = item, gateway

    def apply(self, wanted: Collection[Object]) -> None:
        """Write what differs, then delete what is not wanted, routes before their backends. Raises a KubeError.

        What fails does not keep the others from being written.
        """
        by_path = {path_of(item): marked(item) for item in wanted}
        failed: KubeError | None = None
        for path, item in by_path.items():
            if path not in self._there or not holds(self._there[path], item):
                failed = self._try(lambda path=path, item=item: self._write(path, item)) or failed  # type: ignore[misc]
        for path in sorted(self._there.keys() - by_path.keys(), key=_order, reverse=True):
            failed = self._try(lambda path=path: self._delete(path)) or failed  # type: ignore[misc]
        if failed is not None:
            raise failed

    # ---- inside
    def _try(self, act: Callable[[], None]) -> KubeError | None:
        try:
            act()
        except KubeError as error:
            _LOG.warning("%s", error)
            return error
        return None

    def _write(self, path: str, item: Object) -> None:
        gateway = str(item["metadata"]["labels"][OWNER])
        self._there[path] = self._kube.patch(path, item, "apply", _QUERY)
        self._gateways[path] = Gateway(gateway)
        self._count(gateway, "written")
        _LOG.info("%s is written", path)

    def _delete(self, path: str) -> None:
        gateway = self._gateways[path]
        with contextlib.suppress(NotFound):
            self._kube.delete(path)
        self._there.pop(path)
        self._gateways.pop(path)
        self._count(gateway, "deleted")
        _LOG.info("%s is deleted", path)

    def _forget(self, gateway: Gateway) -> None:
        for path in [path for path, of in self._gateways.items() if of is gateway]:
            self._there.pop(path)
            self._gateways.pop(path)

    def _list(self, gateway: Gateway, kind: Kind, settings: GatewaySettings) -> list[Json]:
        try:
            if kind is CONFIG_MAP:  # by name, so that no other ConfigMap need be readable
                found = [self._kube.get(kind.path(settings.namespace, LITELLM))]
            else:
                where = kind.everywhere if gateway is Gateway.POOL else kind.path(settings.namespace, "")[:-1]
                found, _ = self._kube.list(where, {"labelSelector": f"{OWNER}={gateway}"})
        except NotFound:
            return []
        return [item for item in found if at(item, "metadata", "labels").get(OWNER) == gateway]


def _order(path: str) -> tuple[int, str]:
    """Kinds in the order in which they are written."""
    plurals = [kind.plural for kinds in KINDS.values() for kind in kinds]
    return plurals.index(path.split("/")[-2]), path


def marked(item: Object) -> Object:
    """The object with a digest of all that it says."""
    said = dumps({key: value for key, value in item.items() if key != "metadata"}, sort_keys=True)
    notes = {**item["metadata"]["annotations"], MARK: hashlib.sha256(said.encode()).hexdigest()[:16]}
    return {**item, "metadata": {**item["metadata"], "annotations": notes}}


def holds(there: object, wanted: object) -> bool:
    """Whether what is there has all that is wanted; the API server adds defaults beside it."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(key in there and holds(there[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        same = isinstance(there, list) and len(there) == len(wanted)
        return same and all(holds(one, other) for one, other in zip(_items(there), wanted, strict=True))
    return there == wanted


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
