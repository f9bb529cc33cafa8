"""Tenants for quota tests: two classes of cards, boring defaults."""

from typing import Any

from kerf.testing.builders import H100_MIB, cards_of
from kerf.values.node import Node
from kerf.values.quota import Amount, CardClass, ClassQuota, Share, TenantQuota

H100 = CardClass("nvidia", "NVIDIA H100 80GB HBM3")
L4 = CardClass("nvidia", "NVIDIA L4")
L4_MIB = 23_034
SLUG = H100.slug


def h100_node(name: str = "h-1", cards: Any = 4, **changes: Any) -> Node:
    held = cards_of(name, cards) if isinstance(cards, int) else cards
    return Node(name, held, cpu_milli=96_000, memory_mib=786_432, **changes)


def l4_node(name: str = "l-1", cards: int = 2, **changes: Any) -> Node:
    return h100_node(name, cards_of(name, cards, model="NVIDIA L4", memory_mib=L4_MIB), **changes)


def tenant(name: str, guaranteed: Share | int = 1, model: str = "H100", **changes: Any) -> TenantQuota:
    """A tenant of the namespace of its name; a number is whole cards."""
    share = Share(whole=guaranteed) if isinstance(guaranteed, int) else guaranteed
    quota = ClassQuota(model, guaranteed=share, **{k: changes.pop(k) for k in ("burst", "lendable") if k in changes})
    return TenantQuota(name, **{"namespaces": (name,), "classes": (quota,), **changes})


def whole(cards: int) -> Amount:
    """What so many H100 give."""
    return Amount(H100_MIB, 100, 10) * cards
