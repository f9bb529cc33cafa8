"""`kerf simulate`'s model of the DRA allocator beside Kubernetes' own: the same devices, in the same order."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deviceplugin.core.offered import NodeView, offered
from kerf.testing.builders import a_card, a_mig_card
from kerf.values.allocator import Allocator
from kerf.values.device import Card
from kerf.values.grant import NO_USE
from kerf.values.policy import SchedulingPolicy
from kerf.wire.claim_requests import known_classes, parse_ask
from kerf.wire.resourceslices import numbered, render_pool
from kerfctl.claiming.allocate import Ended, allocate
from kerfctl.claiming.devices import books_of, pool_of
from kerfctl.claiming.place import allocated_claim
from tests.cluster.real_allocator import NODE, Kubernetes, running_allocator

pytestmark = pytest.mark.cluster
__all__ = ["running_allocator"]
"""The fixture `kubernetes`."""

SELECTORS = (
    "device.attributes['gpu.kerf.dev'].model.contains('H100')",
    "device.attributes['gpu.kerf.dev'].index != 0 && !device.attributes['gpu.kerf.dev'].mig",
    "device.attributes['gpu.kerf.dev'].numa in [0, 7]",
    "device.attributes['gpu.kerf.dev'].?bus.orValue('') == ''",
    "device.capacity['gpu.kerf.dev'].memory.compareTo(quantity('40Gi')) >= 0",
    "device.capacity['gpu.kerf.dev'].memory.isLessThan(quantity('60000Mi'))",
    "has(device.attributes['gpu.kerf.dev'].profile) || device.allowMultipleAllocations",
    "device.attributes['gpu.kerf.dev'].profile == '1g.10gb'",
    "device.driver.startsWith('gpu.') ? device.attributes['gpu.kerf.dev'].uuid.endsWith('1') : false",
    "cel.bind(mine, device.attributes['gpu.kerf.dev'], mine.index > 0 || mine.model.split('1')[0] == 'H')",
    "['H100', 'B200'].exists(word, device.attributes['gpu.kerf.dev'].model == word)",
    "'numa' in device.attributes['gpu.kerf.dev'] && device.attributes['gpu.kerf.dev'].index % 2 == 0",
    "device.capacity['gpu.kerf.dev'].cores.asInteger() >= 50",
    "device.attributes['gpu.kerf.dev'].?bus != optional.of('x')",
    "device.attributes['gpu.kerf.dev'].model == 7 || device.attributes['gpu.kerf.dev'].model > 7",
    "device.attributes['other.dev'].?x.hasValue() || device.attributes['gpu.kerf.dev'].uuid.matches('^GPU-[0-2]$')",
)
EXACT = {"allocationMode": "ExactCount", "count": 1}
"""As the API server writes it."""
quantities = {
    "memory": st.sampled_from(["1Gi", "512", "1G", "20000Mi", "40Gi", "41e9", "79Gi", "200Gi"]),
    "cores": st.sampled_from(["0", "1", "500m", "1500m", "33", "99", "100"]),
    "slots": st.sampled_from(["1", "2"]),
    "gpu.kerf.dev/memory": st.just("3Gi"),
    "nothing": st.just("1"),
}
ways = st.fixed_dictionaries(
    {"deviceClassName": st.sampled_from(["slice.gpu.kerf.dev"] * 3 + ["card.gpu.kerf.dev", "mig.gpu.kerf.dev"])},
    optional={
        "count": st.integers(1, 3),
        "capacity": st.fixed_dictionaries(
            {"requests": st.fixed_dictionaries({}, optional={k: v for k, v in quantities.items() if k != "nothing"})}
        ),
        "selectors": st.lists(st.sampled_from(SELECTORS), max_size=2).map(
            lambda texts: [{"cel": {"expression": text}} for text in texts]
        ),
        "tolerations": st.sampled_from([[], [{"operator": "Exists"}], [{"key": "gpu.kerf.dev/cordon"}]]),
    },
)
alternatives = st.lists(ways, min_size=1, max_size=2).map(
    lambda found: {"firstAvailable": [{"name": f"s{i}", **EXACT, **way} for i, way in enumerate(found)]}
)
plain = ways.map(lambda way: {"exactly": {**EXACT, **way}})
all_of = ways.map(lambda way: {"exactly": {k: v for k, v in way.items() if k != "count"} | {"allocationMode": "All"}})
requests = st.lists(st.one_of(plain, plain, plain, alternatives, all_of), min_size=1, max_size=2).map(
    lambda found: [{"name": f"r{i}", **request} for i, request in enumerate(found)]
)
constraints = st.lists(
    st.builds(
        lambda kind, name: {kind: f"gpu.kerf.dev/{name}"},
        st.sampled_from(["matchAttribute", "distinctAttribute"]), st.sampled_from(["uuid", "model", "bus", "numa"]),
    ),
    max_size=1,
)  # fmt: skip


def spec_of(requests: list[dict[str, Any]], constraints: list[dict[str, Any]]) -> dict[str, Any]:
    """A claim. For distinctAttribute Kubernetes 1.36 keeps a request's last device only; the model keeps all."""
    ways = [way for one in requests for way in (one.get("exactly"), *one.get("firstAvailable", ())) if way]
    several = any(way.get("allocationMode") == "All" or way.get("count", 1) > 1 for way in ways)
    kept = [one for one in constraints if not (several and "distinctAttribute" in one)]
    return {"devices": {"requests": requests} | ({"constraints": kept} if kept else {})}


claims = st.builds(spec_of, requests, constraints)
cards = st.lists(
    st.builds(
        lambda memory, slots, numa, model: (memory, slots, numa, model),
        st.integers(1000, 90_000), st.integers(1, 4), st.integers(0, 1), st.sampled_from(["H100", "A100"]),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def slices_of(hardware: list[Card], cordoned: list[str]) -> tuple[dict[str, Any], ...]:
    uses = {card.id: NO_USE for card in hardware}
    listed = offered(hardware, uses, NodeView(cordoned), SchedulingPolicy())
    return numbered(render_pool(NODE, "u", listed, shares=True), 1)


@given(cards, st.booleans(), st.booleans(), st.lists(st.lists(claims, min_size=1, max_size=2), min_size=1, max_size=5))
def test_the_model_gives_each_pod_what_kubernetes_allocator_gives_it(
    kubernetes: Kubernetes,
    hardware: list[tuple[int, int, int, str]],
    mig: bool,
    cordoned: bool,
    pods: list[list[dict[str, Any]]],
):
    made = [
        a_card(i, memory_mib=memory, slots=slots, numa=numa, model=model, allocator=Allocator.DRA)
        for i, (memory, slots, numa, model) in enumerate(hardware)
    ]
    made += [a_mig_card(9, allocator=Allocator.DRA)] if mig else []
    slices = slices_of(made, [made[0].id] if cordoned else [])
    pool, allocated = pool_of(NODE, slices), list[dict[str, Any]]()
    classes = known_classes()
    for number, specs in enumerate(pods):
        named = [
            {"metadata": {"name": f"c{number}-{i}", "namespace": "default", "uid": f"u{number}-{i}"}, "spec": spec}
            for i, spec in enumerate(specs)
        ]
        real = kubernetes.ask(slices, allocated, named)
        try:
            picks = allocate([parse_ask(claim, classes) for claim in named], pool, books_of(pool, allocated))
        except Ended as error:
            assume("combinations" not in str(error))
            assert "error" in real
            continue
        assert "error" not in real, real
        if picks is None:
            assert not real["allocations"]
            continue
        mine = [allocated_claim(c, NODE, [p for p in picks if p.claim == i], []) for i, c in enumerate(named)]
        assert [shown(claim["status"]["allocation"]) for claim in mine] == [shown(each) for each in real["allocations"]]
        allocated += mine


def shown(allocation: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a claim got, without ids that are random, amounts as numbers."""
    from kerf.values.units import parse_quantity

    return [
        (
            result["request"],
            result["device"],
            {name: parse_quantity(amount) for name, amount in (result.get("consumedCapacity") or {}).items()},
        )
        for result in allocation["devices"]["results"]
    ]
