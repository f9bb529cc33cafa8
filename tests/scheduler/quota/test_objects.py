"""Kueue's objects from shares, and the writes between two states of them."""

import copy
from typing import Any

from kerf.values.policy import QuotaSettings, SchedulingPolicy
from kerf.values.quota import Amount, ClassQuota, Share, TenantQuota
from kerf.vendors.registry import NAMES
from kerf.wire.kueue import parse_flavor_usage, parse_reserved
from scheduler.quota.capacity import capacity
from scheduler.quota.objects import changes, desired, key_of
from scheduler.quota.shares import divide
from tests.scheduler.quota.tenants import SLUG, h100_node, tenant

SETTINGS = QuotaSettings()
MIB, CORES, CARDS = NAMES[0].quota


def objects(*tenants: Any, cards: int = 4, settings: QuotaSettings = SETTINGS) -> tuple[dict[str, Any], ...]:
    return desired(divide(tenants, capacity([h100_node(cards=cards)], SchedulingPolicy())), settings, NAMES)


def written(found: tuple[Any, ...]) -> list[tuple[str, str, str]]:
    return [(change.action, change.key[0], change.key[2]) for change in found]


def test_a_tenant_becomes_a_queue_with_its_guarantee_its_limits_and_its_namespaces() -> None:
    made = {item["kind"]: item for item in objects(
        tenant("a", Share(memory_mib=8000, cores=100), burst=Share(memory_mib=4000), lendable=Share(memory_mib=9000),
               namespaces=("a", "b"), weight=3, priority="high")
    )}  # fmt: skip

    assert made["ResourceFlavor"]["spec"] == {"nodeLabels": {f"class.kerf.dev/{SLUG}": "true"}}
    assert (made["WorkloadPriorityClass"]["metadata"]["name"], made["WorkloadPriorityClass"]["value"]) == (
        "kerf-high",
        1000,
    )
    assert made["AdmissionCheck"]["spec"] == {"controllerName": "kerf.dev/gpu-fit"}
    assert made["ClusterQueue"]["spec"] == {
        "cohortName": "kerf",
        "namespaceSelector": {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}]
        },
        "queueingStrategy": "BestEffortFIFO",
        "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
        "fairSharing": {"weight": "3"},
        "admissionChecksStrategy": {"admissionChecks": [{"name": "kerf-gpu-fit"}]},
        "resourceGroups": [
            {
                "coveredResources": [MIB, CORES, CARDS],
                "flavors": [
                    {
                        "name": SLUG,
                        "resources": [
                            # lendable is at most what is guaranteed
                            {"name": MIB, "nominalQuota": "8000", "borrowingLimit": "4000", "lendingLimit": "8000"},
                            {"name": CORES, "nominalQuota": "100"},
                            {"name": CARDS, "nominalQuota": "2147483647", "borrowingLimit": "0", "lendingLimit": "0"},
                        ],
                    }
                ],
            }
        ],
    }
    assert [i["metadata"]["namespace"] for i in objects(tenant("a", 1, namespaces=("a", "b")))[-2:]] == ["a", "b"]


def test_a_tenant_of_whose_file_nothing_can_be_kept_has_a_queue_that_covers_nothing() -> None:
    made = objects(TenantQuota("team", ("a",), (ClassQuota("B200"),)))

    (queue,) = [item for item in made if item["kind"] == "ClusterQueue"]
    assert "resourceGroups" not in queue["spec"]
    assert ("LocalQueue", "a", "kerf") in [key_of(item) for item in made]


def test_of_two_tenants_that_claim_a_namespace_the_first_has_its_queue() -> None:
    first, second = (TenantQuota(name, ("both", name), (ClassQuota("H100"),)) for name in ("a", "b"))
    shares = divide([first, second], capacity([h100_node()], SchedulingPolicy()), {"b": "namespace both is taken"})

    made = desired(shares, SETTINGS, NAMES)

    queues = {key_of(item)[1]: item["spec"]["clusterQueue"] for item in made if item["kind"] == "LocalQueue"}
    assert queues == {"a": "a", "both": "a", "b": "b"}


def test_the_rest_is_on_the_cohort() -> None:
    cohort = next(item for item in objects(tenant("a", 1), tenant("b", 1)) if item["kind"] == "Cohort")

    # 4 cards, two of them promised: 2 x 81,559 MiB, 200 %, 20 slots
    flavor = cohort["spec"]["resourceGroups"][0]["flavors"][0]
    assert [resource["nominalQuota"] for resource in flavor["resources"]] == ["163118", "200", "20"]


def test_what_is_there_is_left_alone_however_the_api_server_writes_it() -> None:
    live = copy.deepcopy(objects(tenant("a", Share(memory_mib=8000, cores=100))))
    for item in live:
        item["metadata"]["resourceVersion"] = "7"
        item["status"] = {}
        if item["kind"] == "ClusterQueue":
            item["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "8k"
            item["spec"]["stopPolicy"] = "None"

    assert changes(objects(tenant("a", Share(memory_mib=8000, cores=100))), live) == ()


def test_a_new_cluster_gets_everything_in_the_order_in_which_one_needs_the_other() -> None:
    assert written(changes(objects(tenant("a", 1)), ())) == [
        ("create", "ResourceFlavor", SLUG),
        ("create", "WorkloadPriorityClass", "kerf-normal"),
        ("create", "AdmissionCheck", "kerf-gpu-fit"),
        ("create", "ClusterQueue", "a"),
        ("create", "Cohort", "kerf"),
        ("create", "LocalQueue", "kerf"),
    ]


def test_when_cards_are_lost_the_cohort_shrinks_before_any_tenant_does() -> None:
    tenants = (tenant("a", 2), tenant("b", 1))
    # 4 -> 3 cards: the rest was 1 card; 3 -> 2: the guarantees shrink
    one, two, three = (objects(*tenants, cards=n) for n in (4, 3, 2))

    assert written(changes(two, one)) == [("update", "Cohort", "kerf")]
    assert written(changes(three, two)) == [("update", "ClusterQueue", "a"), ("update", "ClusterQueue", "b")]


def test_what_shrinks_is_written_before_what_grows_so_that_nothing_is_promised_twice() -> None:
    before, after = objects(tenant("a", 3), tenant("b", 1)), objects(tenant("a", 1), tenant("b", 3))

    assert written(changes(after, before)) == [("update", "ClusterQueue", "a"), ("update", "ClusterQueue", "b")]
    assert written(changes(before, after)) == [("update", "ClusterQueue", "b"), ("update", "ClusterQueue", "a")]


def test_a_tenant_that_is_gone_is_deleted_queues_first() -> None:
    assert written(changes(objects(), objects(tenant("a", 1)))) == [
        ("update", "Cohort", "kerf"),
        ("delete", "LocalQueue", "kerf"),
        ("delete", "ClusterQueue", "a"),
        ("delete", "AdmissionCheck", "kerf-gpu-fit"),
        ("delete", "WorkloadPriorityClass", "kerf-normal"),
    ]


def test_a_change_says_what_was_and_what_will_be() -> None:
    before = objects(tenant("a", 1, burst=Share(memory_mib=5)))
    (change,) = (c for c in changes(objects(tenant("a", 2)), before) if c.key[0] == "ClusterQueue")

    where = f"spec.resourceGroups[0].flavors[{SLUG}].resources"
    assert set(change.details) == {
        f"{where}[{MIB}].nominalQuota: 81559 → 163118",
        f"{where}[{MIB}].borrowingLimit: 5 → nothing",
        f"{where}[{CORES}].nominalQuota: 100 → 200",
        f"{where}[{CARDS}].nominalQuota: 10 → 20",
    }


def test_what_is_not_wanted_any_more_is_taken_off_objects_that_stay() -> None:
    unchecked = objects(tenant("a", 1), settings=QuotaSettings(fit_check=False))
    without_rest = objects(tenant("a", 4))
    for item in without_rest:
        if item["kind"] == "Cohort":
            item["spec"] = {}

    assert written(changes(unchecked, objects(tenant("a", 1)))) == [
        ("update", "ClusterQueue", "a"),
        ("delete", "AdmissionCheck", "kerf-gpu-fit"),
    ]
    assert ("update", "Cohort", "kerf") in written(changes(without_rest, objects(tenant("a", 1))))


def test_kueues_books_are_read_back_as_amounts() -> None:
    status = {
        "flavorsReservation": [
            {
                "name": SLUG,
                "resources": [{"name": MIB, "total": "12k", "borrowed": "4k"}, {"name": CARDS, "total": "3"}],
            }
        ]
    }
    workload = {
        "status": {
            "admission": {
                "podSetAssignments": [
                    {
                        "flavors": {MIB: SLUG, CORES: SLUG, CARDS: SLUG, "cpu": "x"},
                        "resourceUsage": {MIB: "8k", CARDS: 2},
                    },
                    {"flavors": {"cpu": "x"}, "resourceUsage": {"cpu": "1"}},
                ]
            }
        }
    }

    assert parse_flavor_usage(status, "flavorsReservation", NAMES) == {SLUG: (Amount(12_000, 0, 3), Amount(4000, 0, 0))}
    assert parse_reserved(workload, NAMES) == {SLUG: Amount(8000, 0, 2)}
    assert parse_reserved({}, NAMES) == {}
