"""The pod contract: what every container's words mean, defaults resolved."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.testing.builders import a_container, a_pod
from kerf.values.ask import ContainerAsk, PodAsk, Selection, Stage, Wishes
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES
from kerf.wire.container_asks import parse_container
from kerf.wire.errors import WireError
from kerf.wire.resources import containers_of, effective_requests, parse_pod, stages_of

GPU, MEM, PERCENT, CORES = "nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"
PRIORITY = "nvidia.com/priority"


def read(limits: dict[str, Any], defaults: Defaults | None = None, **parts: Any) -> ContainerAsk | None:
    container = {"name": "main", "resources": {"limits": limits, **parts}}
    return parse_container(container, Stage.APP, NAMES[0], defaults or Defaults())


def mib(cards: int, memory: int, cores: int) -> ContainerAsk:
    return ContainerAsk("main", cards, memory_mib=memory, cores=cores, vendor="nvidia")


def percent(cards: int, share: int, cores: int) -> ContainerAsk:
    return ContainerAsk("main", cards, memory_percent=share, cores=cores, vendor="nvidia")


@pytest.mark.parametrize(
    ("limits", "ask"),
    [
        pytest.param({GPU: "1", MEM: "8000", CORES: "30"}, mib(1, 8000, 30), id="a slice"),
        pytest.param({GPU: "2", MEM: "8k", CORES: "30"}, mib(2, 8000, 30), id="a slice of each of two cards"),
        pytest.param({GPU: "1", MEM: "8Ki"}, mib(1, 8192, 0), id="binary suffixes count too"),
        pytest.param({GPU: "1", PERCENT: "25"}, percent(1, 25, 0), id="a percentage"),
        pytest.param({GPU: "1"}, percent(1, 100, 100), id="a whole card is exclusive"),
        pytest.param({GPU: "1", PERCENT: "100"}, percent(1, 100, 100), id="100 % is a whole card"),
        pytest.param({GPU: "1", CORES: "10"}, percent(1, 100, 10), id="all the memory, some cores"),
        pytest.param({GPU: "1", MEM: "8000", PERCENT: "25"}, mib(1, 8000, 0), id="memory wins over a percentage"),
        pytest.param({GPU: "1", MEM: "0", PERCENT: "25"}, percent(1, 25, 0), id="zero memory is unset"),
        pytest.param({GPU: "1", PERCENT: "0"}, percent(1, 100, 100), id="zero percent is unset"),
        pytest.param({GPU: "1", MEM: "8000", CORES: "101"}, mib(1, 8000, 100), id="cores are cut at 100"),
        pytest.param({MEM: "8000"}, mib(1, 8000, 0), id="memory alone means one card"),
        pytest.param({PERCENT: "50"}, percent(1, 50, 0), id="a percentage alone means one card"),
        pytest.param({CORES: "50"}, percent(1, 100, 50), id="cores alone mean one card"),
        pytest.param({GPU: "0"}, None, id="no card"),
        pytest.param({PRIORITY: "0"}, None, id="a priority alone asks for nothing"),
        pytest.param({"cpu": "1"}, None, id="another resource"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_what_a_container_asks_for(limits: dict[str, Any], ask: ContainerAsk | None) -> None:
    assert read(limits) == ask


@pytest.mark.parametrize(
    ("limits", "ask"),
    [
        ({GPU: "1"}, mib(1, 4000, 10)),
        ({CORES: "50"}, mib(2, 4000, 50)),
        ({GPU: "1", PERCENT: "100"}, percent(1, 100, 10)),
        ({GPU: "1", MEM: "1"}, mib(1, 1, 10)),
    ],
)
def test_a_policy_says_what_is_not_named(limits: dict[str, Any], ask: ContainerAsk) -> None:
    defaults = Defaults(memory_mib=4000, cores=10, cards=2, whole_card_cores=False)

    assert read(limits, defaults) == ask


def test_requests_count_where_there_are_no_limits() -> None:
    assert read({}, requests={GPU: "1", MEM: "100"}) == mib(1, 100, 0)
    assert read({MEM: "200"}, requests={GPU: "1", MEM: "100"}) == mib(1, 200, 0)


@given(st.integers(1, 64), st.integers(1, 2**24), st.integers(0, 100))
def test_every_slice_is_read_as_written(cards: int, memory: int, cores: int) -> None:
    assert read({GPU: str(cards), MEM: str(memory), CORES: str(cores)}) == mib(cards, memory, cores)


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({GPU: "65"}, GPU),
        ({GPU: "-1"}, GPU),
        ({GPU: "0.5"}, GPU),
        ({GPU: "0", MEM: "1"}, GPU),
        ({GPU: "0", CORES: "1"}, GPU),
        ({MEM: "3Gi"}, MEM),
        ({MEM: str(2**24 + 1)}, MEM),
        ({MEM: "x"}, MEM),
        ({MEM: None}, MEM),
        ({MEM: True}, MEM),
        ({PERCENT: "101"}, PERCENT),
        ({PERCENT: "-1"}, PERCENT),
        ({CORES: "-1"}, CORES),
        ({CORES: "1500m"}, CORES),
    ],
)
def test_an_impossible_amount_is_refused_by_its_field(limits: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as caught:
        read(limits)

    assert caught.value.field == f"spec.containers[main].resources.limits[{field}]"


def test_a_pod_is_read_whole() -> None:
    pod = a_pod(
        namespace="team",
        uid="u-1",
        labels={"kerf.dev/gang": "g"},
        annotations={
            "kerf.dev/gang-size": "3",
            "nvidia.com/use-gpuuuid": " GPU-b,GPU-a, ,GPU-a",
            "nvidia.com/nouse-gpuuuid": "GPU-c",
            "nvidia.com/use-gputype": "H100,a100",
            "nvidia.com/nouse-gputype": "L4",
            "nvidia.com/vgpu-mode": "hami-core,mig",
            "nvidia.com/numa-bind": "True",
            "hami.io/node-scheduler-policy": "spread",
            "hami.io/gpu-scheduler-policy": "mutex, binpack,numa",
            "hami.io/device-scoring-weights": "slot=1, core=2,memory=0",
        },
        init=[
            a_container("fetch", mem=100, cores=0),
            a_container("proxy", mem=200, cores=0, restartPolicy="Always"),
            {"name": "plain"},
        ],
        containers=[
            {
                "name": "main",
                "resources": {"limits": {GPU: "1", MEM: "1k", PRIORITY: "0", "cpu": "2", "memory": "1Gi"}},
            },
            {"name": "log"},
        ],
        spec={"priority": 1000},
    )

    assert parse_pod(pod, NAMES, Defaults()) == PodAsk(
        namespace="team",
        name="pod-1",
        uid="u-1",
        containers=(
            ContainerAsk("fetch", 1, memory_mib=100, stage=Stage.INIT, vendor="nvidia"),
            ContainerAsk("proxy", 1, memory_mib=200, stage=Stage.SIDECAR, vendor="nvidia"),
            ContainerAsk("main", 1, memory_mib=1000, vendor="nvidia"),
        ),
        selection=Selection(
            use_ids=("GPU-a", "GPU-b"),
            avoid_ids=("GPU-c",),
            use_types=("a100", "h100"),
            avoid_types=("l4",),
            modes=("mig", "shared"),
            same_numa=True,
        ),
        wishes=Wishes("spread", ("mutex", "binpack", "numa"), (1, 2, 0)),
        cpu_milli=2000,
        memory_mib=1024,
        priority=1000,
        task_priority=0,
        gang="team/g",
        gang_size=3,
    )


@pytest.mark.parametrize(
    ("annotations", "modes"),
    [
        ({"kerf.dev/mode": "preload"}, ("shared",)),
        ({"kerf.dev/mode": "mps, preload"}, ("mps", "shared")),
        ({"nvidia.com/vgpu-mode": "mps"}, ("mps",)),
        ({"nvidia.com/vgpu-mode": "hami-core,mps", "kerf.dev/mode": "mps,mig"}, ("mps",)),
        ({}, ()),
    ],
)
def test_a_pod_accepts_the_modes_that_all_its_annotations_name(
    annotations: dict[str, str], modes: tuple[str, ...]
) -> None:
    assert parse_pod(a_pod(annotations=annotations), NAMES, Defaults()).selection.modes == modes


def test_annotations_that_have_no_mode_in_common_are_refused() -> None:
    pod = a_pod(annotations={"nvidia.com/vgpu-mode": "mig", "kerf.dev/mode": "mps"})

    with pytest.raises(WireError, match=r"accept a mode that nvidia\.com/vgpu-mode accepts too") as found:
        parse_pod(pod, NAMES, Defaults())
    assert found.value.field == "metadata.annotations[kerf.dev/mode]"


def test_a_pod_without_cards_wishes_for_nothing() -> None:
    pod = a_pod(gpu=0, mem=None, cores=None, annotations={"nvidia.com/vgpu-mode": "nonsense"})

    assert parse_pod(pod, NAMES, Defaults()) == PodAsk("default", "pod-1", "uid-default-pod-1")


@pytest.mark.parametrize(
    ("labels", "spec", "gang"),
    [
        ({"kerf.dev/gang": "g"}, {}, "default/g"),
        ({"scheduling.x-k8s.io/pod-group": "g"}, {}, "default/g"),
        ({"kerf.dev/gang": "g", "scheduling.x-k8s.io/pod-group": "h"}, {}, "default/g"),
        ({"kerf.dev/gang": "g"}, {"schedulingGroup": {"podGroupName": "native"}}, "default/native"),
        ({}, {}, None),
    ],
    ids=["Kerf's label", "the scheduler plugins' label", "both", "Kubernetes' own field", "none"],
)
def test_a_gang_is_named_in_three_ways(labels: dict[str, str], spec: dict[str, Any], gang: str | None) -> None:
    assert parse_pod(a_pod(labels=labels, spec=spec), NAMES, Defaults()).gang == gang


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("nvidia.com/vgpu-mode", "hami-core,vgpu"),
        ("kerf.dev/mode", "hami-core"),
        ("nvidia.com/numa-bind", "1"),
        ("hami.io/device-scoring-weights", "slot=1,core=1"),
        ("hami.io/device-scoring-weights", "slot=1,core=1,memory=-1"),
        ("hami.io/device-scoring-weights", "slot=0,core=0,memory=0"),
        ("hami.io/device-scoring-weights", "slot=1,core=1,memory=1,speed=1"),
        ("hami.io/device-scoring-weights", "slot=1,core=1,memory=x"),
        ("hami.io/device-scoring-weights", ""),
        ("kerf.dev/gang-size", "-1"),
        ("kerf.dev/gang-size", "many"),
    ],
)
def test_a_malformed_annotation_is_refused_by_its_key(annotation: str, value: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_pod(a_pod(annotations={annotation: value}), NAMES, Defaults())

    assert caught.value.field == f"metadata.annotations[{annotation}]"


def test_an_impossible_task_priority_is_refused_though_the_pod_asks_for_no_card() -> None:
    with pytest.raises(WireError, match=r"nvidia\.com/priority\]: '9E': write a whole number from 0 to 1"):
        parse_pod(a_pod(containers=[{"name": "main", "resources": {"limits": {PRIORITY: "9E"}}}]), NAMES, Defaults())


@pytest.mark.parametrize("priority", ["high", True, 1.5])
def test_a_priority_is_a_whole_number(priority: object) -> None:
    with pytest.raises(WireError, match=r"spec\.priority: .*: write a whole number"):
        parse_pod(a_pod(spec={"priority": priority}), NAMES, Defaults())


def test_containers_come_in_start_order_with_their_stages() -> None:
    pod = a_pod(
        init=[{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        containers=[{"name": "a"}, {"name": "b"}],
    )

    order = (("i", Stage.INIT), ("s", Stage.SIDECAR), ("j", Stage.INIT), ("a", Stage.APP), ("b", Stage.APP))
    assert stages_of(pod["spec"]) == order
    assert [container["name"] for container, _ in containers_of(pod["spec"])] == ["i", "s", "j", "a", "b"]


def cpu(name: str, amount: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"cpu": amount, "memory": "1Mi"}}, **more}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [cpu("a", "1"), cpu("b", "500m")]}, (1500, 2), id="apps add up"),
        pytest.param(
            {"initContainers": [cpu("i", "3")], "containers": [cpu("a", "1")]}, (3000, 1), id="a larger init container"
        ),
        pytest.param(
            {
                "initContainers": [cpu("s", "1", restartPolicy="Always"), cpu("i", "3")],
                "containers": [cpu("a", "2")],
            },
            (4000, 2),  # max(1 + 3, 1 + 2), and two containers at once
            id="a sidecar beside an init container",
        ),
        pytest.param(
            {"containers": [cpu("a", "1")], "overhead": {"cpu": "250m", "memory": "2Mi"}}, (1250, 3), id="overhead"
        ),
        pytest.param(
            {"containers": [cpu("a", "1")], "resources": {"requests": {"cpu": "5"}}}, (5000, 1), id="pod-level cpu"
        ),
        pytest.param(
            {"containers": [{"name": "a", "resources": {"limits": {"cpu": "2"}}}]}, (2000, 0), id="limits are requests"
        ),
        pytest.param({"containers": [cpu("a", "0.0001")]}, (1, 1), id="rounded up"),
    ],
)
def test_cpu_and_memory_follow_kubernetes_effective_request_rule(spec: Any, expected: tuple[int, int]) -> None:
    assert effective_requests(spec) == expected


@pytest.mark.parametrize(
    ("limits", "hint"),
    [
        ({"nvidia.com/gpu": "0.5"}, "0.5 of a card is nvidia.com/gpumem-percentage: 50; "),
        ({"nvidia.com/gpu": "500m"}, "0.5 of a card is nvidia.com/gpumem-percentage: 50; "),
        ({"nvidia.com/gpumem-percentage": "0.25"}, "0.25 of a card is nvidia.com/gpumem-percentage: 25; "),
        ({"nvidia.com/gpu": 1, "nvidia.com/gpucores": "0.3"}, "0.3 of a card is nvidia.com/gpucores: 30; "),
    ],
)
def test_a_part_of_a_card_is_refused_with_how_it_is_written(limits, hint):
    with pytest.raises(WireError) as error:
        read(limits)
    assert hint in error.value.fix


STATUS = {"containerStatuses": [{"name": "main", "allocatedResources": {"cpu": "4", "memory": "1Gi"}}]}
INFEASIBLE = {"conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]}


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        ({}, (2000, 3072)),
        (STATUS, (4000, 3072)),  # cpu shrinks and the kubelet has not given it back; memory grows and is not given yet
        ({**STATUS, **INFEASIBLE}, (4000, 1024)),
        ({"containerStatuses": [{"name": "other", "allocatedResources": {"cpu": "9"}}]}, (2000, 3072)),
        ({"containerStatuses": "odd", "conditions": 1}, (2000, 3072)),
    ],
)
def test_a_pod_that_is_resized_counts_as_kube_scheduler_counts_it(status, counted):
    spec = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2", "memory": "3Gi"}}}]}

    assert effective_requests(spec, status) == counted


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        ({}, (2000, 3072)),
        ({"allocatedResources": {"cpu": "4", "memory": "1Gi"}}, (4000, 3072)),
        ({"resources": {"requests": {"cpu": "5"}}, "allocatedResources": {"cpu": "4"}}, (5000, 3072)),
        ({"allocatedResources": {"cpu": "4", "memory": "1Gi"}, **INFEASIBLE}, (4000, 1024)),
    ],
)
def test_a_pod_with_resources_of_its_own_that_is_resized_counts_as_kube_scheduler_counts_it(status, counted):
    spec = {"containers": [{"name": "main"}], "resources": {"requests": {"cpu": "2", "memory": "3Gi"}}}

    assert effective_requests(spec, status) == counted
