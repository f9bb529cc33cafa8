"""The tenants' books, followed: each change is handed on as values."""

import logging
from collections.abc import Callable

from kerf.kube.client import Json, Kube
from kerf.kube.watch import Follower
from kerf.values.accounts import TenantAccount
from kerf.wire.accounts import parse_account
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.quota import PATH, held_to_nothing

log = logging.getLogger("webhook")


class TenantFollower:
    """Follows TenantQuota objects. A cluster without the CRD has no tenants.

    An object that cannot be read holds its namespaces to nothing, in the scheduler too, and its account says why.
    """

    def __init__(self, kube: Kube, changed: Callable[[tuple[TenantAccount, ...]], None]) -> None:
        self._changed = changed
        self._books: dict[str, TenantAccount] = {}
        self._follower = Follower(kube, PATH, self._replace, self._change, optional=True)

    @property
    def synced(self) -> bool:
        """Whether the first list was handed on."""
        return self._follower.synced.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._follower.start()

    def stop(self) -> None:
        """End as soon as the current wait ends."""
        self._follower.stop()

    def _replace(self, items: list[Json]) -> None:
        before = self._books
        self._books = {_name(item): _read(item, before.get(_name(item))) for item in items}
        self._changed(tuple(self._books.values()))

    def _change(self, kind: str, item: Json) -> None:
        name = _name(item)
        book = None if kind == "DELETED" else _read(item, self._books.get(name))
        if book == self._books.get(name):
            return
        if book:
            self._books[name] = book
        else:
            del self._books[name]
        self._changed(tuple(self._books.values()))


def _read(item: Json, before: TenantAccount | None) -> TenantAccount:
    try:
        return parse_account(item)
    except WireError as error:
        log.warning("TenantQuota %s: %s", _name(item), error)
        nothing = held_to_nothing(item, before.namespaces if before else ())
        return TenantAccount(nothing.name, nothing.namespaces, enforced=True, problems=(str(error),))


def _name(item: Json) -> str:
    return str(at(item, "metadata").get("name", ""))
