"""Runtimes without CDI: everything is in Allocate's answer, for the one pod that can be meant."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.deviceplugin.plugin_world import World, a_sliced_pod, a_world, card, one_slice, read_ledger


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path, fallback_env=True) as world:
        yield world.run()


def test_pods_that_come_one_by_one_are_matched_and_verified(world: World):
    for i in range(3):
        pod = world.bind(one_slice(f"pod-{i}", 1000 + i, on=i))
        answer = pod.answers["main"]
        ledger = next(m.host_path for m in answer.mounts if m.container_path == answer.envs["KERF_LEDGER"])

        assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == card(i)
        assert read_ledger(ledger).spec.cards[0].memory_bytes == (1000 + i) << 20
        world.kubelet.pre_start(pod.slots["main"])


def test_the_containers_of_one_pod_are_matched_in_the_kubelets_order(world: World):
    pod = world.bind(a_sliced_pod("pod", init=[(0, 5000, 10)], main=[(1, 7000, 20)], second=[(2, 900, 5)]))

    assert {name: answer.envs["NVIDIA_VISIBLE_DEVICES"] for name, answer in pod.answers.items()} == {
        "init": card(0),
        "main": card(1),
        "second": card(2),
    }
    for slots in pod.slots.values():
        world.kubelet.pre_start(slots)


def test_two_pods_alike_are_refused_and_named(world: World):
    for name in ("a", "b"):
        world.kube.put(one_slice(name, 1000))

    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.allocate(("kerf-0",))

    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "default/a (main), default/b (main); enable CDI in the container runtime" in caught.value.details()


def test_a_match_that_the_kubelet_contradicts_does_not_start(world: World):
    meant = world.bind(one_slice("meant", 1000))
    other = one_slice("other", 2000)
    world.kube.put(other)
    world.kubelet.forget(meant.uid)
    meant.pod = other  # the kubelet reports the slots for another pod than they were matched to
    world.kubelet.pods[other["metadata"]["uid"]] = meant

    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.pre_start(meant.slots["main"])

    assert "were not allocated to the container that starts" in caught.value.details()


def test_a_pod_that_would_over_commit_is_refused_at_its_allocation(world: World):
    first = world.bind(one_slice("first", 50_000))
    world.kubelet.pre_start(first.slots["main"])
    world.kube.put(one_slice("second", 50_000))

    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.allocate(("kerf-39",))

    assert "50,000 of its 81,920 are held (default/first)" in caught.value.details()
