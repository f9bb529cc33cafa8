"""The tenants' books: TenantQuota objects as accounts."""

import logging
from collections.abc import Callable

from kerf.kube.client import Json, Kube
from kerf.values.accounts import TenantAccount
from kerf.wire.accounts import parse_account
from kerf.wire.errors import WireError
from kerf.wire.quota import PATH, held_to_nothing
from webhook.server.followed import Followed, name_of

log = logging.getLogger("webhook")


def follow_tenants(kube: Kube, changed: Callable[[tuple[TenantAccount, ...]], None]) -> Followed[TenantAccount]:
    """Follow every TenantQuota. A cluster without the CRD has no tenants."""
    return Followed(kube, PATH, _read, changed, optional=True)


def _read(item: Json, before: TenantAccount | None) -> TenantAccount:
    """An object that cannot be read holds its namespaces to nothing, in the scheduler too, and its account says why."""
    try:
        return parse_account(item)
    except WireError as error:
        log.warning("TenantQuota %s: %s", name_of(item), error)
        nothing = held_to_nothing(item, before.namespaces if before else ())
        return TenantAccount(nothing.name, nothing.namespaces, enforced=True, problems=(str(error),))
