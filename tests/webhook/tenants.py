"""Tenants for the webhook's tests: boring books, so that a test shows only what it is about."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kerf.testing.builders import H100_MIB
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.device import Mode
from kerf.values.policy import QuotaEngine, QuotaSettings
from kerf.values.quota import Bound, CardClass
from kerf.values.vendor import ResourceNames
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer, Review
from webhook.core.mutate import mutate
from webhook.core.settings import Settings, by_namespace

NAMESPACE = "team-a"
H100, A100, A100_40 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"
A100_40_MIB = 40_960

OTHER = replace(
    VENDORS[0],
    name="acme",
    words=ResourceNames(
        vendor="acme",
        count="acme.com/card",
        memory="acme.com/mem",
        memory_percent="acme.com/mem-percent",
        cores="acme.com/cores",
        priority="acme.com/priority",
        use_ids="acme.com/use-id",
        avoid_ids="acme.com/nouse-id",
        use_types="acme.com/use-type",
        avoid_types="acme.com/nouse-type",
        modes="acme.com/mode",
        same_numa="acme.com/numa",
    ),
)
"""A second vendor."""
BOTH = (VENDORS[0], OTHER)


def a_class_book(model: str = H100, mib: int = H100_MIB, vendor: str = "nvidia", **changes: Any) -> ClassAccount:
    """One class of cards of one size without limits."""
    mode = Mode(changes.pop("mode", "shared"))
    fields: dict[str, Any] = {
        "slug": CardClass(vendor, model, mode).slug,
        "vendor": vendor,
        "model": model,
        "mode": mode.value,
        "smallest_mib": mib,
        "largest_mib": mib,
        "promised": Bound(),
        "guaranteed": Bound(),
        "limit": Bound(),
    }
    return ClassAccount(**{**fields, **changes})


def a_book(*classes: ClassAccount, **changes: Any) -> TenantAccount:
    """A tenant of one namespace; without classes, one of H100s."""
    fields: dict[str, Any] = {"name": "team-a", "namespaces": (NAMESPACE,), "classes": classes or (a_class_book(),)}
    return TenantAccount(**{**fields, **changes})


def a_broken_book(problem: str, **changes: Any) -> TenantAccount:
    """A tenant of whose file nothing can be kept."""
    return a_book(**{"classes": (), "problems": (problem,), **changes})


def settings_of(books: Iterable[TenantAccount], engine: QuotaEngine = QuotaEngine.KERF, **changes: Any) -> Settings:
    """Settings that know these tenants."""
    vendors = changes.pop("vendors", VENDORS)
    return Settings(vendors, quota=QuotaSettings(engine=engine), tenants=by_namespace(books), **changes)


def a_review(item: dict[str, Any], old: dict[str, Any] | None = None, **changes: Any) -> Review:
    """The question about a new object in the tenant's namespace, or about a changed one."""
    group, _, _ = str(item.get("apiVersion", "v1")).rpartition("/")
    fields: dict[str, Any] = {
        "uid": "u",
        "operation": "UPDATE" if old is not None else "CREATE",
        "kind": item.get("kind", "Pod"),
        "namespace": NAMESPACE,
        "user": "joe",
        "object": item,
        "old": old or {},
        "group": group,
    }
    return Review(**{**fields, **changes})


def answer_to(item: dict[str, Any], settings: Settings, old: dict[str, Any] | None = None, **changes: Any) -> Answer:
    """The webhook's answer about an object in the tenant's namespace."""
    return mutate(a_review(item, old, **changes), settings)
