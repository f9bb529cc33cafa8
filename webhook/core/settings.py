"""What the admission rules need to know of the installation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kerf.values.accounts import TenantAccount
from kerf.values.policy import Defaults, QuotaEngine, QuotaSettings
from kerf.values.vendor import ResourceNames
from kerf.vendors.registry import NAMES


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the rules; a changed policy or another state of the tenants makes a new value."""

    vendors: tuple[ResourceNames, ...] = NAMES
    defaults: Defaults = field(default_factory=Defaults)
    scheduler_name: str = "kerf-scheduler"
    runtime_class: str = ""
    """RuntimeClass for pods that ask for cards and name none; empty leaves it to the node."""
    allowed_schedulers: frozenset[str] = frozenset()
    """Further schedulers that pods with cards may name, while a cluster moves over."""
    opted_out_cards: bool = False
    """Pods that opted out may ask for cards: other nodes offer them by another device plugin."""
    trusted: frozenset[str] = frozenset()
    """Users who may change on a live pod what only Kerf or HAMi's components write."""
    quota: QuotaSettings = field(default_factory=QuotaSettings)
    tenants: Mapping[str, TenantAccount] = field(default_factory=dict)
    """The tenants' books by namespace."""

    def tenant(self, namespace: str) -> TenantAccount | None:
        """The tenant of a namespace; nobody where quota is off."""
        return None if self.quota.engine is QuotaEngine.OFF else self.tenants.get(namespace)


def by_namespace(books: Iterable[TenantAccount]) -> dict[str, TenantAccount]:
    """Tenants by namespace. Of two that name one namespace the first by name has it, as the scheduler sees it."""
    found: dict[str, TenantAccount] = {}
    for book in sorted(books, key=lambda book: book.name):
        for namespace in book.namespaces:
            found.setdefault(namespace, book)
    return found
