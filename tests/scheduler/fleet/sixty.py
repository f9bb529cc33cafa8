"""Three clusters and sixty replicas of five workloads, and the least that their cards can cost an hour."""

from functools import cache
from typing import Any

from kerf.config.prices import read_prices
from kerf.testing.builders import a_container
from tests.cluster.fleet_minimum import Model, least_cost

PRICES = read_prices(None)
H100, A100, L40S = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S"
MIB = {H100: 81_559, A100: 81_251, L40S: 46_068}
FLEETS = {
    "north": ("eu-north", "owned", ((H100, 8), (H100, 8), (A100, 8))),
    "south": ("eu-south", "owned", ((A100, 8), (A100, 8), (L40S, 8))),
    "rented": ("us-east-1", "rented", ((H100, 8), (L40S, 8), (L40S, 8))),
}


def a_workload(name: str, replicas: int, mem: int, cores: int, gpu: int = 1, **spec: Any) -> dict[str, Any]:
    containers = [a_container(gpu=gpu, mem=mem, cores=cores)]
    pod = {"schedulerName": "kerf-scheduler", "automountServiceAccountToken": False, "containers": containers}
    template = {"metadata": {"labels": {"app": name}}, "spec": {**pod, "terminationGracePeriodSeconds": 30}}
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "FleetWorkload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "template": template, **spec},
    }


SIXTY = (
    a_workload(
        "chat", 16, 40_000, 45, accepts=[{"model": "H100"}, {"model": "A100", "memoryMiB": 44_000, "cores": 50}]
    ),
    a_workload("large", 2, 81_000, 100, gpu=4, accepts=[{"model": "H100"}]),
    a_workload("embed", 20, 9_000, 15),
    a_workload("vision", 12, 20_000, 40, accepts=[{"model": "L40S"}, {"model": "A100"}], survive=4),
    a_workload("rerank", 10, 12_000, 20, mostPerCluster=6),
)

WANTED = {each["metadata"]["name"]: each["spec"]["replicas"] for each in SIXTY}


def price_of(model: str, cluster: str) -> float:
    """What an hour of a card costs there."""
    region, supply, _ = FLEETS[cluster]
    price = PRICES.of(model, supply, region)
    assert price is not None
    return float(price.per_hour)


@cache
def least_of_sixty() -> float:
    """The least that the five workloads' cards can cost: the eight whole cards of `large`, and the rest by trying."""
    slices = {
        H100: {"chat": (40_000, 45), "embed": (9_000, 15), "rerank": (12_000, 20)},
        A100: {"chat": (44_000, 50), "embed": (9_000, 15), "rerank": (12_000, 20), "vision": (20_000, 40)},
        L40S: {"embed": (9_000, 15), "rerank": (12_000, 20), "vision": (20_000, 40)},
    }
    prices = {
        model: sorted(
            round(price_of(model, name) * 10_000)
            for name, (_, _, nodes) in FLEETS.items()
            for each, cards in nodes
            for _ in range(cards if each == model else 0)
        )
        for model in slices
    }
    whole, prices[H100] = prices[H100][:8], prices[H100][8:]
    models = [Model(MIB[model], tuple(prices[model]), slices[model]) for model in slices]
    rest = {name: n for name, n in WANTED.items() if name != "large"}
    return (sum(whole) + least_cost(models, rest, below=10**9)) / 10_000
