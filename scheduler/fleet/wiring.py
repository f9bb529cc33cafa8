"""The manager with its real parts: clients from kubeconfigs, stores that follow clusters, policy and price files."""

import logging
from collections.abc import Mapping
from typing import Any

from kerf.config.load import PolicyFile
from kerf.config.prices import PriceFile
from kerf.kube.client import Kube, connect_to
from kerf.kube.leadership import GuardedKube, Tenure
from kerf.obs.clock import SteadyClock
from kerf.pricing.prices import PriceList
from kerf.values.policy import SchedulingPolicy
from kerf.values.vendor import Vendor
from scheduler.fleet.manager import NAME, Manager
from scheduler.fleet.member import FollowedMember
from scheduler.state.store import Store

_LOG = logging.getLogger("kerf.fleet")
CALL_S = 5.0
"""A call to a cluster may take this long: a slow one must not hold up the others."""


def build_manager(
    kube: Kube, seat: Tenure, policy: PolicyFile, prices: PriceFile, vendors: tuple[Vendor, ...], namespace: str
) -> Manager:
    """A manager that writes, here and in every cluster, only while `seat` holds its term."""
    moments = SteadyClock()  # by a clock that is set meanwhile every cluster would seem lost, or none

    def now() -> float:
        return moments.now_ms() / 1000

    def follow(name: str, kubeconfig: Mapping[str, Any]) -> FollowedMember:
        client = connect_to(kubeconfig, connections=6, timeout_s=CALL_S)
        store = Store(policy.policy, vendors)
        return FollowedMember(GuardedKube(client, seat), store, vendors[0].name, NAME, name, now)

    def terms() -> tuple[SchedulingPolicy, PriceList]:
        prices.reload(_LOG.error)
        return policy.policy, prices.prices

    return Manager(GuardedKube(kube, seat), follow, terms, tuple(vendor.words for vendor in vendors), namespace, now)
