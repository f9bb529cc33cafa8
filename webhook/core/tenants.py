"""TenantQuota objects: refused if they cannot be read, or if they claim another tenant's namespace."""

from collections.abc import Mapping

from kerf.values.accounts import TenantAccount
from kerf.wire.admission import Review
from kerf.wire.errors import WireError
from kerf.wire.quota import KIND, parse_tenant
from kerf.wire.quota import PATH as _PATH

GROUP_KIND = (_PATH.split("/")[2], KIND)


def check_tenant(review: Review, tenants: Mapping[str, TenantAccount]) -> None:
    """Refuse a TenantQuota that cannot be kept; `tenants` are those known, by namespace. Raises WireError.

    An update that leaves the spec as it was passes, or a finalizer could not be taken off an old, unreadable one.
    """
    if review.operation == "UPDATE" and review.object.get("spec") == review.old.get("spec"):
        return
    tenant = parse_tenant(review.object)
    for i, namespace in enumerate(tenant.namespaces):
        other = tenants.get(namespace)
        if other is not None and other.name != tenant.name:
            fix = f"it belongs to tenant {other.name} already: drop it from one of the two"
            raise WireError(f"spec.namespaces[{i}]", namespace, fix)
