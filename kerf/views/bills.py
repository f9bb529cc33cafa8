"""A bill, the prices of models and the use of an hour, as values with a JSON form."""

from collections.abc import Iterable
from typing import Any

from kerf.metering.bill import Bill
from kerf.values.usage import TokenPrice
from kerf.wire.usage import plain


def bill_json(found: Bill) -> dict[str, Any]:
    """The JSON form of a bill. Numbers are decimal texts; `node_cost` is that of the cards."""
    return {
        "rows": [
            {
                "tenant": line.tenant,
                "namespace": line.namespace,
                "workload": line.workload,
                "model": line.model,
                "class": line.card_class,
                "cluster": line.cluster,
                "vgpu_seconds": plain(line.vgpu_seconds),
                "mib_seconds": plain(line.mib_seconds),
                "core_seconds": plain(line.core_seconds),
                "cost": plain(line.cost),
            }
            for line in found.lines
        ],
        "idle_cost": plain(found.idle_cost),
        "node_cost": plain(found.node_cost),
        "currency": found.currency,
    }


def price_json(prices: Iterable[TokenPrice], currency: str, cluster: str) -> dict[str, Any]:
    """The JSON form of models' prices: of a million tokens, as decimal texts."""
    return {
        "models": [
            {
                "model": price.model,
                "input": plain(price.input),
                "cached": plain(price.cached),
                "output": plain(price.output),
                "measured": price.measured,
            }
            for price in prices
        ],
        "currency": currency,
        "cluster": cluster,
    }
