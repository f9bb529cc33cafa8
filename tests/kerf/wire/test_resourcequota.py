"""ResourceQuota objects as people write them; nothing that they say is silently no limit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.hard_quota import HardLimit, HardQuota
from kerf.values.quota import Bound
from kerf.values.traits import ORDINARY, Scope, Traits
from kerf.vendors.registry import NAMES
from kerf.wire.resourcequota import parse_hard

HARD = st.one_of(st.text(max_size=12), st.integers(-5, 10**20), st.floats(), st.none(), st.booleans())


def one(hard: Any, **spec: Any) -> HardLimit | None:
    found = parse_hard([{"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard, **spec}}], NAMES)
    return found["n"].limits[0] if found else None


def bound(hard: dict[str, Any]) -> tuple[Bound, tuple[str, ...]]:
    limit = one(hard)
    assert limit is not None
    return dict(limit.bounds)["nvidia"], limit.problems


@pytest.mark.parametrize(
    ("hard", "expected"),
    [
        ({"limits.nvidia.com/gpu": "2"}, Bound(cards=2)),
        ({"requests.nvidia.com/gpu": "2", "limits.nvidia.com/gpu": "3"}, Bound(cards=2)),
        ({"limits.nvidia.com/gpumem": "20k", "limits.nvidia.com/gpucores": 150}, Bound(20_000, 150)),
        ({"limits.nvidia.com/gpumem": "20Gi"}, Bound(20_480)),
        ({"limits.nvidia.com/gpumem": "20G"}, Bound(19_073)),
        ({"limits.nvidia.com/gpumem": "8M"}, Bound(8_000_000)),  # the API server writes 8000000 so
        ({"limits.nvidia.com/gpumem": "0"}, Bound(0)),
    ],
)
def test_amounts_are_read_as_they_are_meant(hard: dict[str, Any], expected: Bound) -> None:
    assert bound(hard)[0] == expected


@pytest.mark.parametrize(
    ("key", "value", "expected", "problem"),
    [
        ("gpumem", "1500500m", Bound(1500), "of 1500500m is counted as 1,500: write MiB"),
        ("gpucores", "0.5", Bound(None, 0), "of 0.5 is counted as 0: write whole numbers"),
        ("gpu", "1.5", Bound(None, None, 1), "of 1.5 is counted as 1: write whole numbers"),
        ("gpu", "-1", Bound(None, None, 0), "is below zero, so it allows nothing: write whole numbers"),
        ("gpumem", "NaN", Bound(0), "cannot be read (not a quantity: 'NaN'), so it allows nothing: write MiB"),
        (
            "gpumem",
            None,
            Bound(0),
            "cannot be read (not a quantity but of type NoneType), so it allows nothing: write MiB",
        ),
        (
            "gpumem-percentage",
            "50",
            Bound(0),
            "is a part of cards of no known size, so it allows nothing: write limits.nvidia.com/gpumem in MiB",
        ),
    ],
)
def test_what_is_not_counted_as_written_says_so(key: str, value: Any, expected: Bound, problem: str) -> None:
    assert bound({f"limits.nvidia.com/{key}": value}) == (expected, (f"spec.hard[limits.nvidia.com/{key}] {problem}",))


def test_every_object_of_a_namespace_limits_it_by_itself() -> None:
    items = [
        {"metadata": {"name": name, "namespace": "n"}, "spec": {"hard": {"limits.nvidia.com/gpu": count}}}
        for name, count in (("b", "1"), ("a", "x"), ("c", "3"))
    ]

    found = parse_hard(items, NAMES)["n"]

    assert [limit.name for limit in found.limits] == ["a", "b", "c"]
    assert found.problems == (
        (
            "ResourceQuota a: spec.hard[limits.nvidia.com/gpu] cannot be read (not a quantity: 'x'), "
            "so it allows nothing: write whole numbers"
        ),
    )


def test_an_object_that_says_nothing_of_cards_limits_none() -> None:
    assert one({"requests.cpu": "4", "count/pods": "9"}) is None
    assert parse_hard([{}, {"spec": {"hard": []}}], NAMES) == {}


VIP = Traits(priority_class="vip")


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({"scopes": ["Terminating"]}, {Traits(terminating=True): True, ORDINARY: False}),
        ({"scopes": ["NotTerminating"]}, {Traits(terminating=True): False, ORDINARY: True}),
        ({"scopes": ["BestEffort"]}, {Traits(best_effort=True): True, ORDINARY: False}),
        ({"scopes": ["NotBestEffort"]}, {Traits(best_effort=True): False, ORDINARY: True}),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {Traits(cross_namespace=True): True, ORDINARY: False}),
        ({"scopes": ["PriorityClass"]}, {VIP: True, ORDINARY: False}),
        ({"scopes": ["OfTomorrow"]}, {VIP: True, ORDINARY: True}),
        (("In", ["vip"]), {VIP: True, ORDINARY: False}),
        (("NotIn", ["vip"]), {VIP: False, ORDINARY: True}),
        (("Exists", []), {VIP: True, ORDINARY: False}),
        (("DoesNotExist", []), {VIP: False, ORDINARY: True}),
        (("Like", ["v*"]), {VIP: True, ORDINARY: True}),
    ],
)
def test_scopes_say_which_pods_count_and_unknown_ones_count_all(spec: Any, counted: dict[Traits, bool]) -> None:
    if isinstance(spec, tuple):
        rule = {"scopeName": "PriorityClass", "operator": spec[0], "values": spec[1]}
        spec = {"scopeSelector": {"matchExpressions": [rule]}}
    limit = one({"limits.nvidia.com/gpu": 1}, **spec)

    assert limit is not None
    assert {traits: limit.takes(traits) for traits in counted} == counted


@given(st.dictionaries(st.sampled_from(["gpu", "gpumem", "gpucores"]), HARD, min_size=1))
def test_whatever_a_key_says_it_is_a_limit(values: dict[str, Any]) -> None:
    found = parse_hard(
        [
            {
                "metadata": {"namespace": "n"},
                "spec": {"hard": {f"limits.nvidia.com/{key}": value for key, value in values.items()}},
            }
        ],
        NAMES,
    )

    assert isinstance(found["n"], HardQuota)
    limits = dict(found["n"].limits[0].bounds)["nvidia"]
    said = {"gpumem": limits.memory_mib, "gpucores": limits.cores, "gpu": limits.cards}
    assert {key for key, value in said.items() if value is not None} == set(values)


def test_a_scope_without_an_operator_is_one_that_exists() -> None:
    assert Scope("PriorityClass").takes(VIP)
