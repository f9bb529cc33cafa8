"""Containers start with their own grant, and only with it: the plugin between a fake kubelet and a fake API server."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from kerf.kube.errors import Unreachable
from kerf.testing.builders import a_container, a_pod
from kerf.wire.annotations import GRANT
from kerf.wire.records import PodRecord, parse_records
from tests.deviceplugin.fake_kubelet import Admitted
from tests.deviceplugin.plugin_world import NODE, World, a_sliced_pod, a_world, card, one_slice


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as world:
        yield world.run()


def refused(world: World, admitted: Admitted, container: str = "main") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.start_container(admitted, container)
    return caught.value.code(), caught.value.details()


def test_twenty_pods_of_one_card_each_get_their_own_memory_in_any_order_of_the_kubelets_calls(world: World):
    pods = [world.bind(one_slice(f"pod-{i:02}", 1000 + i, on=i % 4)) for i in range(20)]
    world.kubelet.random.shuffle(pods)

    got = {p.pod["metadata"]["name"]: world.got(world.kubelet.start_container(p, "main")) for p in pods}

    assert {f"pod-{i:02}": ((card(i % 4), 1000 + i, 5),) for i in range(20)} == got


def test_two_containers_a_sidecar_and_an_init_container_each_get_their_own_slice(world: World):
    grants = {
        "init": [(0, 5000, 10)],
        "sidecar": [(1, 600, 5)],
        "main": [(2, 7000, 20)],
        "second": [(0, 800, 5)],
    }
    pods = [world.bind(a_sliced_pod(f"pod-{i}", **grants)) for i in range(4)]

    for pod in pods:
        for container, slices in grants.items():
            name = world.kubelet.start_container(pod, container)
            assert tuple((card(i), mib, cores) for i, mib, cores in slices) == world.got(name), container


def test_sharers_of_one_slot_keep_their_own_slices_through_restarts_in_any_order(world: World):
    pod = world.bind(a_sliced_pod("pod", init=[(0, 5000, 10)], init2=[(3, 900, 1)], main=[(1, 7000, 20)]))
    assert pod.slots["init"] == pod.slots["init2"] == pod.slots["main"]

    for container, mine in (("init", (card(0), 5000, 10)), ("init2", (card(3), 900, 1)), ("main", (card(1), 7000, 20)),
                            ("init", (card(0), 5000, 10)), ("main", (card(1), 7000, 20))):  # fmt: skip
        assert (mine,) == world.got(world.kubelet.start_container(pod, container))


def test_a_pod_whose_only_slices_are_an_init_containers_is_found_by_the_kubelets_checkpoint(world: World):
    pod = a_sliced_pod("warm-up", init=[(0, 5000, 10)])
    pod["spec"]["containers"] = [{"name": "main", "image": "app"}]
    admitted = world.bind(pod)

    assert ((card(0), 5000, 10),) == world.got(world.kubelet.start_container(admitted, "init"))


def test_without_the_checkpoint_sharers_with_different_slices_are_refused_and_equal_ones_start(world: World):
    world.kubelet.checkpoint = False
    same = world.bind(a_sliced_pod("same", init=[(0, 5000, 10)], main=[(0, 5000, 10)]))
    differs = world.bind(a_sliced_pod("differs", init=[(1, 5000, 10)], main=[(1, 7000, 10)]))

    assert ((card(0), 5000, 10),) == world.got(world.kubelet.start_container(same, "main"))
    code, message = refused(world, differs)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "containers init, main of pod default/differs share slots" in message


def test_several_cards_keep_the_grants_order(world: World):
    pod = world.bind(a_sliced_pod("wide", main=[(3, 9000, 50), (0, 9000, 50), (2, 9000, 50)]))

    assert ((card(3), 9000, 50), (card(0), 9000, 50), (card(2), 9000, 50)) == world.got(
        world.kubelet.start_container(pod, "main")
    )


def test_a_plugin_that_was_restarted_half_way_continues(world: World):
    pods = [world.bind(one_slice(f"pod-{i}", 1000 + i, on=2)) for i in range(10)]
    shared = world.bind(a_sliced_pod("shared", init=[(0, 5000, 10)], main=[(1, 7000, 20)]))
    for pod in pods[:5]:
        world.kubelet.start_container(pod, "main")
    world.kubelet.start_container(shared, "init")

    world.restart_plugin()

    for i, pod in enumerate(pods):
        assert ((card(2), 1000 + i, 5),) == world.got(world.kubelet.start_container(pod, "main"))
    assert ((card(1), 7000, 20),) == world.got(world.kubelet.start_container(shared, "main"))


def test_a_kubelet_that_was_restarted_finds_the_same_slots_and_the_same_answers(world: World):
    pod = world.bind(one_slice("pod", 1234))
    before = dict(world.kubelet.devices)

    world.kubelet.stop()
    world.kubelet.start()
    world.kubelet.wait_registrations(2)
    world.kubelet.wait_devices(40)

    assert before == world.kubelet.devices
    assert ((card(0), 1234, 5),) == world.got(world.kubelet.start_container(pod, "main"))


def test_a_restarted_container_gets_the_same_files(world: World):
    pod = world.bind(one_slice("pod", 1234))

    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in world.root.rglob("*") if p.is_file() and "device-plugins" not in str(p)}

    world.kubelet.start_container(pod, "main")
    before = files()
    world.kubelet.start_container(pod, "main")

    assert before == files()


def test_a_pod_without_a_grant_is_refused_with_an_event(world: World):
    pod = world.bind(a_pod("stranger", node=NODE, mem=1000))

    code, message = refused(world, pod)

    expected = "pod default/stranger has no grant (kerf.dev/grant): it was not placed by Kerf's scheduler"
    assert (grpc.StatusCode.FAILED_PRECONDITION, expected) == (code, message)
    assert {("NoGrant", expected)} == events_of(world)


def test_of_two_pods_that_over_commit_a_card_the_one_bound_later_is_refused_and_the_first_one_starts(world: World):
    early, late = one_slice("early", 50_000), one_slice("late", 40_000)
    late["metadata"]["creationTimestamp"] = "2026-01-01T00:00:09Z"
    first, second = world.bind(early), world.bind(late)

    _, message = refused(world, second)
    world.kubelet.start_container(first, "main")

    assert message == (
        "pod default/late was granted 40,000 MiB of card GPU-node-1-0, but 50,000 of its 81,920 are held "
        "(default/early): 31,920 are free"
    )


def test_a_pod_that_runs_is_never_refused_for_one_that_was_bound_before_it(world: World):
    late = world.bind(one_slice("late", 50_000))
    world.kubelet.start_container(late, "main")
    early = one_slice("early", 50_000)
    early["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    second = world.bind(early)

    refused(world, second)
    world.kubelet.start_container(late, "main")  # its container restarts meanwhile


def test_a_grant_forged_on_a_pod_that_was_never_bound_counts_nothing(world: World):
    forged = one_slice("forged", 81_920, cores=100)
    del forged["spec"]["nodeName"]
    world.kube.put(forged)
    pod = world.bind(one_slice("honest", 81_920, cores=100))

    assert ((card(0), 81_920, 100),) == world.got(world.kubelet.start_container(pod, "main"))


def test_a_grant_that_was_edited_to_more_than_the_pod_asks_for_is_refused(world: World):
    pod = one_slice("greedy", 1000)
    pod["metadata"]["annotations"][GRANT] = pod["metadata"]["annotations"][GRANT].replace("1000", "9000")
    admitted = world.bind(pod)

    _, message = refused(world, admitted)

    assert message == (
        "pod default/greedy: container main asks for 1,000 MiB and 5 % of the cores a card and was granted 9,000 MiB "
        "and 5 % of the cores of GPU-node-1-0"
    )


def test_a_grant_that_was_edited_after_the_start_neither_frees_nor_restarts_anything(world: World):
    pod = world.bind(one_slice("shrunk", 60_000))
    world.kubelet.start_container(pod, "main")
    edited = one_slice("shrunk", 60_000)
    edited["metadata"]["annotations"][GRANT] = edited["metadata"]["annotations"][GRANT].replace("60000", "1")
    world.kube.put(edited)
    other = one_slice("other", 60_000)
    other["metadata"]["creationTimestamp"] = "2026-01-01T00:00:09Z"

    assert "60,000 of its 81,920 are held (default/shrunk)" in refused(world, world.bind(other))[1]
    assert "was changed after the pod was admitted" in refused(world, pod)[1]


def test_a_container_that_asks_for_cards_but_is_missing_in_the_grant_is_refused(world: World):
    pod = one_slice("partial", 1000)
    pod["spec"]["containers"].append(a_container("forgotten", mem=500, cores=5))
    admitted = world.bind(pod)

    assert (
        "container forgotten of pod default/partial asks for 1 cards and its grant holds none for it"
        in refused(world, admitted)[1]
    )


def test_an_api_server_that_is_down_for_a_moment_delays_the_start(world: World):
    pod = world.bind(one_slice("pod", 1234))
    failures = iter([True] * 3)
    world.kube.fail = lambda method, path: down() if path == "/api/v1/pods" and next(failures, False) else None

    assert ((card(0), 1234, 5),) == world.got(world.kubelet.start_container(pod, "main"))


def test_an_api_server_that_stays_down_is_a_clean_error_within_the_kubelets_deadline(world: World):
    pod = world.bind(one_slice("pod", 1234))
    world.kube.fail = lambda method, path: down() if path == "/api/v1/pods" else None

    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.start_container(pod, "main", timeout_s=4.0)  # the kubelet gives 30 s

    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "the API server: Unreachable" in caught.value.details()


def test_what_belongs_to_pods_that_are_gone_is_removed_at_the_next_start(world: World):
    gone, stays = world.bind(one_slice("gone", 1000)), world.bind(one_slice("stays", 2000))
    for pod in (gone, stays):
        world.kubelet.start_container(pod, "main")
    world.stop_plugin()
    world.kube.remove("/api/v1/namespaces/default/pods/gone")
    world.kubelet.forget(gone.uid)

    world.restart_plugin()

    def left() -> str:
        return " ".join(str(path) for path in world.root.rglob("*") if path.parent.name != "history")

    await_true(lambda: "gone" not in left())
    assert ((card(0), 2000, 5),) == world.got(stays.answers["main"].cdi_devices[0].name)

    def record() -> PodRecord:
        return next(parse_records(path.read_text())[0] for path in world.root.rglob("history/*gone*"))

    await_true(lambda: 0 < record().start_ms <= record().end_ms)


def test_slots_pass_to_the_next_pod_with_the_next_pods_slices(world: World):
    for round_ in range(2):
        pods = [world.bind(one_slice(f"pod-{round_}-{i}", 100 * round_ + i + 1, on=i % 4)) for i in range(40)]
        for i, pod in enumerate(pods):
            assert ((card(i % 4), 100 * round_ + i + 1, 5),) == world.got(world.kubelet.start_container(pod, "main"))
        for pod in pods:
            world.kubelet.forget(pod.uid)
            world.kube.remove(f"/api/v1/namespaces/default/pods/{pod.pod['metadata']['name']}")


def test_a_cached_list_that_is_behind_refuses_no_pod(world: World):
    gone = world.bind(one_slice("gone", 50_000))
    world.kubelet.start_container(gone, "main")
    behind = world.kube.list("/api/v1/pods", {"fieldSelector": f"spec.nodeName={NODE}"})
    world.kube.remove("/api/v1/namespaces/default/pods/gone")
    world.kubelet.forget(gone.uid)
    fresh_list = world.kube.list
    world.kube.list = lambda path, query=None: behind if "resourceVersionMatch" in query else fresh_list(path, query)

    pod = world.bind(one_slice("next", 50_000))

    assert ((card(0), 50_000, 5),) == world.got(world.kubelet.start_container(pod, "main"))


def test_of_pods_that_start_in_the_same_instant_no_more_are_admitted_than_fit(world: World):
    pods = [world.bind(one_slice(f"pod-{i}", 30_000)) for i in range(6)]
    all_listed = threading.Barrier(len(pods), timeout=10.0)
    fresh_list, first = world.kube.list, set(range(len(pods)))

    def list_together(path: str, query: Any = None) -> Any:
        answer = fresh_list(path, query)
        if path == "/api/v1/pods" and first and threading.current_thread().name.startswith("kubelet"):
            first.pop()
            all_listed.wait()
        return answer

    world.kube.list = list_together
    with ThreadPoolExecutor(len(pods)) as pool:
        calls = [pool.submit(world.kubelet.pre_start, pod.slots["main"]) for pod in pods]
        started = [call.exception() is None for call in calls]

    assert sum(started) == 2  # 2 x 30,000 of 81,920 MiB


def test_a_pod_that_was_admitted_while_another_listed_is_counted(world: World):
    slow = world.bind(one_slice("slow", 50_000))
    looked, go_on = threading.Event(), threading.Event()
    fresh_list = world.kube.list

    def look_slowly(path: str, query: Any = None) -> Any:
        answer = fresh_list(path, query)
        if path == "/api/v1/pods" and threading.current_thread().name.startswith("kubelet") and not looked.is_set():
            looked.set()
            assert go_on.wait(10.0)
        return answer

    world.kube.list = look_slowly
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(world.kubelet.pre_start, slow.slots["main"])
        assert looked.wait(10.0)
        quick = one_slice("quick", 50_000)
        quick["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
        world.kubelet.start_container(world.bind(quick), "main")
        go_on.set()

    assert "50,000 of its 81,920 are held (default/quick)" in call.exception().details()


def down() -> None:
    raise Unreachable("connection refused")


def events_of(world: World) -> set[tuple[str, str]]:
    await_true(lambda: bool(world.kube.objects("/api/v1/namespaces/default/events")))
    return {(e["reason"], e["message"]) for e in world.kube.objects("/api/v1/namespaces/default/events")}


def await_true(condition: Any) -> None:
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError(json.dumps("the condition never came true"))


def test_a_container_that_hami_placed_starts_again_under_the_ids_of_hamis_plugin(world: World):
    """A node that moved over: the kubelet still holds what HAMi's plugin had allocated before it left."""
    notes = {"hami.io/vgpu-node": NODE, "hami.io/vgpu-devices-allocated": f"{card(0)},NVIDIA,60000,20:;"}
    pod = a_pod("theirs", node=NODE, mem=60_000, cores=20, annotations=notes)
    pod["metadata"]["creationTimestamp"] = "2025-12-31T00:00:00Z"
    theirs = world.bind(pod)
    theirs.slots["main"] = (f"{card(0)}-7",)
    world.kubelet._write_checkpoint()

    world.kubelet.pre_start(theirs.slots["main"])

    late = world.bind(one_slice("late", 30_000))
    code, message = refused(world, late)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "60,000 of its 81,920 are held (default/theirs): 21,920 are free" in message


def test_hamis_record_alone_starts_nothing_that_kerfs_plugin_handed_out(world: World):
    """Who could write HAMi's annotations gets no card by them: the kubelet gives Kerf's ids to every new pod."""
    notes = {"hami.io/vgpu-node": NODE, "hami.io/vgpu-devices-allocated": f"{card(0)},NVIDIA,1000,5:;"}
    forged = world.bind(a_pod("forged", node=NODE, mem=1000, cores=5, annotations=notes))

    code, message = refused(world, forged)

    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "has no grant" in message
