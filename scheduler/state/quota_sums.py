"""What pods and claims hold, added up as the limits ask for it: by tenant, beside the tenants, and by ResourceQuota."""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from kerf.values.hard_quota import HardLimit
from kerf.values.quota import NOTHING, Amount, total
from kerf.values.traits import Traits
from scheduler.state.counted import Counted

Key = TypeVar("Key")


class QuotaSums:
    """The caller holds the store's lock."""

    def __init__(self) -> None:
        self._tenants: Collection[str] = ()
        """Namespaces of tenants."""
        self._by_class: dict[tuple[str, str], Amount] = {}
        """By namespace and class."""
        self._without_tenant: dict[str, Amount] = {}
        """By class, in namespaces of no tenant."""
        self._by_traits: dict[tuple[str, str], dict[Traits | None, Amount]] = {}
        """By namespace and vendor, what pods of the same traits hold together; under None what claims hold."""

    def set_tenants(self, namespaces: Collection[str]) -> None:
        """Tell the namespaces of tenants from those of none."""
        self._tenants = namespaces
        self._without_tenant = {}
        for (namespace, slug), amount in self._by_class.items():
            if namespace not in namespaces:
                _add(self._without_tenant, slug, amount)

    def add(self, counted: Counted, sign: int) -> None:
        """Add, or take away (-1), what a pod or a claim holds."""
        for slug, amount in counted.by_class.by:
            _add(self._by_class, (counted.namespace, slug), amount * sign)
            if counted.namespace not in self._tenants:
                _add(self._without_tenant, slug, amount * sign)
        for vendor, amount in counted.by_vendor.by:
            key = (counted.namespace, vendor)
            _add(self._by_traits.setdefault(key, {}), counted.traits, amount * sign)
            if not self._by_traits[key]:
                del self._by_traits[key]

    def of(self, namespaces: Iterable[str], slug: str) -> Amount:
        """What these namespaces hold of a class."""
        return total(self._by_class.get((namespace, slug), NOTHING) for namespace in namespaces)

    def of_tenants(self) -> dict[str, Amount]:
        """What all tenants hold together, by class."""
        held: dict[str, Amount] = {}
        for (namespace, slug), amount in self._by_class.items():
            if namespace in self._tenants:
                held[slug] = held.get(slug, NOTHING) + amount
        return held

    @property
    def without_tenant(self) -> Mapping[str, Amount]:
        """What namespaces of no tenant hold together, by class."""
        return self._without_tenant

    def under(self, limit: HardLimit, namespace: str, vendor: str) -> Amount:
        """What a namespace holds of a vendor's cards that a ResourceQuota counts."""
        held = self._by_traits.get((namespace, vendor), {})
        return total(amount for traits, amount in held.items() if limit.takes(traits))


def _add(sums: dict[Key, Amount], key: Key, amount: Amount) -> None:
    """Add; what adds up to nothing is left out."""
    if summed := sums.get(key, NOTHING) + amount:
        sums[key] = summed
    else:
        sums.pop(key, None)
