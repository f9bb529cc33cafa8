"""What is written for Kueue to count: the truth, worked out by hand in each row."""

from typing import Any

import pytest

from kerf.testing.builders import H100_MIB, a_pod
from kerf.values.policy import QuotaEngine
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Answer
from tests.webhook.json_patch import apply
from tests.webhook.kubernetes_sums import pod_requests
from tests.webhook.tenants import (
    A100,
    A100_40,
    A100_40_MIB,
    BOTH,
    H100,
    NAMESPACE,
    a_book,
    a_class_book,
    answer_to,
    settings_of,
)
from webhook.core.settings import Settings

QUOTA = "quota.kerf.dev"
LIMITS = "spec.containers[main].resources.limits"
ONE_KIND = settings_of([a_book()])
TWO_SIZES = settings_of([a_book(a_class_book(), a_class_book(A100_40, A100_40_MIB))])


def says(name: str = "main", **limits: str) -> dict[str, Any]:
    """A container with resources of nvidia.com as they are written, `_` for `-`."""
    resources = {f"nvidia.com/{key.replace('_', '-')}": value for key, value in limits.items()}
    return {"name": name, "image": "app", "resources": {"limits": resources}}


def stored(pod: dict[str, Any], settings: Settings = ONE_KIND) -> dict[str, Any]:
    answer = answer_to(pod, settings)
    assert answer.allowed, answer.message
    result: dict[str, Any] = apply(pod, answer.patch)
    return result


def counted(pod: dict[str, Any], settings: Settings = ONE_KIND) -> dict[str, int]:
    """What Kueue counts of the stored pod."""
    sums = pod_requests(stored(pod, settings)["spec"], QUOTA)
    return {name.removeprefix(f"{QUOTA}/"): value for name, value in sums.items()}


def totals(mib: int, cores: int, cards: int, vendor: str = "nvidia") -> dict[str, int]:
    values = {f"{vendor}-mib": mib, f"{vendor}-cores": cores, f"{vendor}-cards": cards}
    return {name: value for name, value in values.items() if value}


@pytest.mark.parametrize(
    ("pod", "truth"),
    [
        pytest.param(
            a_pod(containers=[says(gpu="2", gpumem="4096", gpucores="30")]),
            totals(8192, 60, 2),  # 2 x 4,096 and 2 x 30
            id="2 cards of 4,096 MiB and 30 %",
        ),
        pytest.param(
            a_pod(containers=[says("a", gpu="1", gpumem="1000"), says("b", gpu="1", gpumem="3000")]),
            totals(4000, 0, 2),  # 1,000 + 3,000
            id="two containers",
        ),
        pytest.param(
            a_pod(containers=[says(gpu="2", gpumem="1000")], init=[says("i", gpu="1", gpumem="8000")]),
            totals(8000, 0, 2),  # max(2 x 1,000, 8,000), max(2, 1)
            id="an init container that is larger",
        ),
        pytest.param(
            a_pod(containers=[says(gpu="1")]),
            totals(81_559, 100, 1),  # the whole card, for itself
            id="a whole card",
        ),
        pytest.param(
            a_pod(containers=[says(gpu="1", gpumem_percentage="50")]),
            totals(40_779, 0, 1),  # 81,559 x 50 / 100, rounded down
            id="half a card",
        ),
        pytest.param(
            a_pod(containers=[says(gpumem="4096")]),
            totals(4096, 0, 1),  # one card, not said
            id="memory and no card",
        ),
        pytest.param(
            a_pod(containers=[says("a", gpu="1", gpumem="1k"), says("b", gpu="2", gpumem="1500")],
                  init=[says("i", gpumem="3500")]),
            totals(4000, 0, 3),  # max(1,000 + 2 x 1,500, 3,500), 1 + 2
            id="three cards of two containers, an init container that is smaller",
        ),
        pytest.param(
            a_pod(containers=[says(gpu="8")]),
            totals(652_472, 800, 8),  # 8 x 81,559
            id="eight whole cards",
        ),
        pytest.param(
            a_pod(containers=[says(gpucores="50")]),
            totals(81_559, 50, 1),  # all the memory, half the compute
            id="cores alone",
        ),
        pytest.param(
            a_pod(
                containers=[says(gpumem="2000", gpucores="30")],
                init=[
                    says("convert", gpumem="5000"),
                    {**says("proxy", gpumem="1000", gpucores="10"), "restartPolicy": "Always"},
                    says("warm", gpumem="3000", gpucores="50"),
                ],
            ),
            totals(5000, 60, 2),  # convert alone; warm 50 beside proxy 10; proxy beside main
            id="a sidecar between init containers",
        ),
        pytest.param(a_pod(containers=[says(gpu="0")]), {}, id="no card"),
        pytest.param(a_pod(containers=[says(priority="0")]), {}, id="a priority alone"),
    ],
)  # fmt: skip
def test_what_kueue_counts_is_the_truth(pod: dict[str, Any], truth: dict[str, int]) -> None:
    assert counted(pod) == truth


def test_vendors_are_counted_apart() -> None:
    classes = (a_class_book(), a_class_book("Acme One", 16_000, "acme"))
    container = says(gpu="1", gpumem="8000")
    container["resources"]["limits"] |= {"acme.com/card": "2", "acme.com/mem-percent": "25"}

    found = counted(a_pod(containers=[container]), settings_of([a_book(*classes)], vendors=BOTH))

    assert found == totals(8000, 0, 1) | totals(8000, 0, 2, "acme")  # 2 x 16,000 x 25 / 100


def test_totals_stand_in_limits_and_requests_as_kubernetes_demands() -> None:
    (container,) = stored(a_pod(gpu=2, mem=4096, cores=30))["spec"]["containers"]

    written = {
        "nvidia.com/gpu": "2",
        "nvidia.com/gpumem": "4096",
        "nvidia.com/gpucores": "30",
        "quota.kerf.dev/nvidia-mib": "8192",
        "quota.kerf.dev/nvidia-cores": "60",
        "quota.kerf.dev/nvidia-cards": "2",
    }
    assert container["resources"] == {"limits": written, "requests": written}


@pytest.mark.parametrize("engine", [QuotaEngine.KERF, QuotaEngine.KUEUE])
def test_totals_are_written_with_every_engine_of_quota(engine: QuotaEngine) -> None:
    assert counted(a_pod(), settings_of([a_book()], engine)) == totals(8000, 30, 1)


@pytest.mark.parametrize(
    "settings",
    [settings_of([a_book()], QuotaEngine.OFF), settings_of([a_book(namespaces=("elsewhere",))])],
    ids=["quota is off", "no tenant's namespace"],
)
def test_without_a_tenant_nothing_is_written_and_nothing_forged_stays(settings: Settings) -> None:
    pod = a_pod()
    pod["spec"]["containers"][0]["resources"]["limits"]["quota.kerf.dev/nvidia-mib"] = "1"
    answer = answer_to(pod, settings)

    assert pod_requests(apply(pod, answer.patch)["spec"], QUOTA) == {}
    assert answer.warnings == (f"{LIMITS}[quota.kerf.dev/nvidia-mib] is counted by Kerf alone; it was removed",)


@pytest.mark.parametrize("labels", [{}, {"kerf.dev/webhook": "ignore"}], ids=["a pod", "a pod that opted out"])
@pytest.mark.parametrize("settings", [Settings(VENDORS), ONE_KIND], ids=["without a tenant", "a tenant's"])
def test_a_container_without_cards_keeps_no_totals(settings: Settings, labels: dict[str, str]) -> None:
    forged = {"limits": {"cpu": "1", f"{QUOTA}/nvidia-mib": "1"}, "requests": {f"{QUOTA}/anything": "1"}}
    pod = a_pod(containers=[{"name": "main", "resources": forged}], labels=labels)

    assert stored(pod, settings)["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {}}


def test_forged_totals_are_overwritten_by_the_truth() -> None:
    container = says(gpu="1", gpumem="8000")
    container["resources"]["limits"] |= {f"{QUOTA}/nvidia-mib": "1", f"{QUOTA}/nvidia-cores": "1"}

    assert counted(a_pod(containers=[container])) == totals(8000, 0, 1)


def test_opting_out_is_no_way_past_a_tenants_quota() -> None:
    labels = {"hami.io/webhook": "ignore"}
    ours, foreign = (a_pod(labels=labels, spec={"schedulerName": name}) for name in ("kerf-scheduler", "other"))

    assert counted(ours) == totals(8000, 30, 1)
    assert answer_to(foreign, ONE_KIND).message.startswith("metadata.labels[kerf.dev/webhook or hami.io/webhook]: 'ig")
    assert answer_to(foreign, settings_of([a_book()], opted_out_cards=True)) == Answer(allowed=True)


def test_where_cards_differ_in_size_a_percentage_becomes_mib_of_the_smallest() -> None:
    pod = a_pod(containers=[says(gpu="2", gpumem_percentage="50")])
    answer = answer_to(pod, TWO_SIZES)
    limits = apply(pod, answer.patch)["spec"]["containers"][0]["resources"]["limits"]

    assert limits == {  # 40,960 x 50 / 100
        "nvidia.com/gpu": "2",
        "nvidia.com/gpumem": "20480",
        "quota.kerf.dev/nvidia-mib": "40960",
        "quota.kerf.dev/nvidia-cards": "2",
    }
    said = (
        f"{LIMITS}[nvidia.com/gpumem-percentage]: cards of several sizes would do, so nvidia.com/gpumem: 20480 was "
        "written, 50 % of the smallest (40,960 MiB)"
    )
    assert answer.warnings == (said,)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"gpu": "1"}, "nvidia.com/gpu]: '1'"),
        ({"gpucores": "50"}, "nvidia.com/gpucores]: '50'"),
        ({"gpu": "1", "gpumem_percentage": "100"}, "nvidia.com/gpumem-percentage]: '100'"),
    ],
    ids=["a whole card", "all its memory", "all of it in percent"],
)
def test_where_cards_differ_in_size_a_whole_one_has_to_name_its_kind(limits: dict[str, str], said: str) -> None:
    answer = answer_to(a_pod(containers=[says(**limits)]), TWO_SIZES)

    assert answer.message == (
        f"{LIMITS}[{said}: whole cards of 40,960 MiB, 81,559 MiB would do, name the kind by the annotation "
        f"nvidia.com/use-gputype, one of: {H100}; {A100_40}"
    )


def test_a_kind_of_several_sizes_cannot_be_named_so_mib_have_to_be() -> None:
    settings = settings_of([a_book(a_class_book(largest_mib=96_000))])

    assert answer_to(a_pod(containers=[says(gpu="1")]), settings).message == (
        f"{LIMITS}[nvidia.com/gpu]: '1': {H100} comes with 81,559 MiB, 96,000 MiB: write nvidia.com/gpumem in MiB"
    )


@pytest.mark.parametrize(
    "choice",
    [
        {"annotations": {"nvidia.com/use-gputype": "H100"}},
        {"annotations": {"nvidia.com/nouse-gputype": "40gb"}},
        {"spec": {"nodeSelector": {f"class.kerf.dev/{a_class_book().slug}": "true"}}},
    ],
    ids=["by its model", "by another's", "by its class"],
)
def test_the_selection_decides_which_card_a_percentage_is_of(choice: dict[str, Any]) -> None:
    assert counted(a_pod(containers=[says(gpu="1")], **choice), TWO_SIZES) == totals(H100_MIB, 100, 1)


def test_the_mode_decides_too() -> None:
    settings = settings_of([a_book(a_class_book(), a_class_book(A100_40, A100_40_MIB, mode="mig"))])
    pod = a_pod(containers=[says(gpu="1")], annotations={"nvidia.com/vgpu-mode": "mig"})

    assert counted(pod, settings) == totals(A100_40_MIB, 100, 1)


def test_quota_of_shared_cards_is_of_those_that_are_shared_through_mps_too() -> None:
    pod = a_pod(containers=[says(gpu="1")], annotations={"kerf.dev/mode": "mps"})

    assert counted(pod, settings_of([a_book(a_class_book())])) == totals(H100_MIB, 100, 1)


def test_models_of_one_size_need_no_name() -> None:
    settings = settings_of([a_book(a_class_book(), a_class_book(A100))])

    assert counted(a_pod(containers=[says(gpu="1")]), settings) == totals(H100_MIB, 100, 1)


HAS = f"tenant team-a has quota of {H100} (shared) alone: select one of these, or ask for quota of others"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": {"nvidia.com/use-gputype": "B200"}},
            f"metadata.annotations[nvidia.com/use-gputype]: 'b200': {HAS}",
        ),
        (
            {"annotations": {"nvidia.com/nouse-gputype": "nvidia"}},
            f"metadata.annotations[nvidia.com/nouse-gputype]: 'nvidia': {HAS}",
        ),
        (
            {"annotations": {"nvidia.com/vgpu-mode": "mig"}},
            f"metadata.annotations[nvidia.com/vgpu-mode]: 'mig': {HAS}",
        ),
        (
            {"spec": {"nodeSelector": {"class.kerf.dev/nvidia-b200": "true"}}},
            f"spec.nodeSelector[class.kerf.dev/nvidia-b200]: 'true': {HAS}",
        ),
    ],
    ids=["a model", "not a model", "a mode", "a class"],
)
def test_a_pod_that_selects_none_of_its_tenants_cards_is_refused(changes: dict[str, Any], message: str) -> None:
    assert answer_to(a_pod(**changes), ONE_KIND).message == message


def test_a_vendor_that_the_tenant_has_no_quota_of_is_refused() -> None:
    container = {"name": "main", "resources": {"limits": {"acme.com/card": "1"}}}
    settings = settings_of([a_book()], vendors=BOTH)

    assert answer_to(a_pod(containers=[container]), settings).message == (
        f"{LIMITS}[acme.com/card]: '1': tenant team-a has no quota of acme cards: ask for some"
    )


def test_while_no_card_is_known_mib_are_counted_and_shares_of_a_card_refused() -> None:
    unknown = settings_of([a_book(classes=())])

    assert counted(a_pod(gpu=2), unknown) == totals(16_000, 60, 2)
    assert answer_to(a_pod(containers=[says(gpu="1")]), unknown).message == (
        f"{LIMITS}[nvidia.com/gpu]: '1': no card of tenant team-a is known yet, so its size is not: "
        "write nvidia.com/gpumem in MiB"
    )


def test_of_two_tenants_that_claim_a_namespace_the_first_by_name_has_it() -> None:
    books = [
        a_book(a_class_book(A100_40, A100_40_MIB), name="b"),
        a_book(name="a"),
        a_book(name="c", namespaces=("x",)),
    ]

    assert settings_of(books).tenants[NAMESPACE].name == "a"
