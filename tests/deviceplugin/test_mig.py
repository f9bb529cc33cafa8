"""Pods on MIG instances: the real plugin with a simulated driver, between a fake kubelet and a fake API server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml

from deviceplugin.core.instances import Record, render_record
from deviceplugin.gate.instances import Instances
from deviceplugin.monitor.instances import InstanceSeries
from deviceplugin.state.files import Files
from deviceplugin.state.node import LocalNode
from deviceplugin.state.node_specs import NodeSpecs
from kerf.kube.paths import pod as pod_path
from kerf.probes.base import MigError
from kerf.probes.simulated import SimulatedProbe
from kerf.testing.builders import a_container, a_pod
from kerf.values.fault import Fault, Signal
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.mig import Geometry, Hurt, Instance, place_at
from kerf.wire.inventory import KEY, parse_inventory
from tests.deviceplugin.leader import evicted
from tests.deviceplugin.plugin_world import NODE, World, a_world, card
from tests.deviceplugin.test_faults import until, write

CARD = card(0)
TIMES = ((999, 1), (1_001, 1), (1_001, 2))
MIG = {"model": "NVIDIA H100 80GB HBM3", "memory_mib": 81_079, "mode": "mig"}
SIZES = {"1g": (9_984, 12, 1), "2g": (20_096, 24, 2), "3g": (40_448, 45, 4), "7g": (81_152, 100, 8)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path) as world:
        foreign = {**MIG, "instances": [{"profile": "1g.10gb", "start": 6}]}
        (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"cards": [MIG, foreign]}))
        yield world.run(slots=13)


def a_mig_pod(name: str, on: int = 0, **containers: tuple[str, int]) -> dict[str, Any]:
    """A bound pod whose containers hold (profile, first memory slice) of a card; `init…` runs before the others."""
    grant, made = [], {}
    for key, (profile, start) in containers.items():
        memory, cores, size = SIZES[profile]
        place = place_at(start, size).adds
        grant.append(ContainerGrant(key, (Slice(card(on), "nvidia", memory, cores, place),)))
        made[key] = a_container(key, mem=memory, cores=cores)
    init = [container for key, container in made.items() if key.startswith("init")]
    apps = [container for key, container in made.items() if not key.startswith("init")]
    return a_pod(name, containers=apps, init=init, grant=Grant(tuple(grant)), node=NODE)


def driver(world: World) -> Any:
    return SimulatedProbe(world.settings.probe.partition(":")[2], NODE).mig


def lies(world: World, on: int = 0) -> list[tuple[int, int]]:
    """Start and size of a card's instances."""
    return [(one.start, one.size) for one in driver(world).instances(card(on))]


def started(world: World, pod: dict[str, Any], container: str = "main") -> str:
    """The MIG device that the container sees."""
    edits = world.runtime_edits(world.kubelet.start_container(world.bind(pod), container))
    assert list(edits["env"]) == ["NVIDIA_VISIBLE_DEVICES"]
    assert edits["mounts"] == {}
    return str(edits["env"]["NVIDIA_VISIBLE_DEVICES"])


def refused(world: World, pod: dict[str, Any], container: str = "main") -> str:
    with pytest.raises(grpc.RpcError) as caught:
        world.kubelet.start_container(world.bind(pod), container)
    return str(caught.value.details())


def end(world: World, name: str) -> None:
    world.kube.remove(pod_path("default", name))


def test_a_pod_gets_the_instance_that_its_grant_names_and_keeps_it_through_restarts(world: World):
    admitted = world.bind(a_mig_pod("a", main=("3g", 4)))
    names = [world.runtime_edits(world.kubelet.start_container(admitted, "main")) for _ in range(2)]
    world.restart_plugin(slots=13)
    names.append(world.runtime_edits(world.kubelet.start_container(admitted, "main")))

    (instance,) = driver(world).instances(CARD)
    assert (instance.start, instance.size, instance.profile) == (4, 4, 9)
    assert [edits["env"] for edits in names] == [{"NVIDIA_VISIBLE_DEVICES": instance.uuid}] * 3


def test_pods_lie_beside_each_other_and_each_has_its_own(world: World):
    seen = {started(world, a_mig_pod(f"p{i}", main=("1g", i))) for i in (6, 4, 5)}
    seen.add(started(world, a_mig_pod("big", main=("3g", 0))))

    assert len(seen) == 4
    assert lies(world) == [(0, 4), (4, 1), (5, 1), (6, 1)]


def test_the_inventory_shows_what_others_made_and_never_kerfs_own(world: World):
    started(world, a_mig_pod("a", main=("3g", 4)))
    world.restart_plugin(slots=13)

    notes = world.kube.get(f"/api/v1/nodes/{NODE}")["metadata"]["annotations"]
    own, theirs = json.loads(notes["kerf.dev/inventory"])["cards"]
    assert ("taken" in own["mig"], own["memory_mib"], own["slots"], own["backend"]) == (False, 81_152, 7, "mig")
    assert [(one["start"], one["size"]) for one in theirs["mig"]["taken"]] == [(6, 1)]
    assert (theirs["memory_mib"], theirs["physical_mib"], theirs["slots"]) == (71_168, 81_152, 6)


def test_the_place_of_a_pod_that_has_ended_is_free_for_the_next_one_at_once(world: World):
    started(world, a_mig_pod("a", main=("3g", 4)))
    end(world, "a")

    started(world, a_mig_pod("b", main=("1g", 5)))

    assert lies(world) == [(5, 1)]


def test_an_instance_that_kerf_did_not_make_is_respected(world: World):
    (before,) = driver(world).instances(card(1))

    said = refused(world, a_mig_pod("a", on=1, main=("3g", 4)))

    assert said == f"pod default/a was granted memory slices 6 of card {card(1)}, held by others than Kerf"
    assert driver(world).instances(card(1)) == (before,)


def test_two_pods_granted_one_place_never_both_run(world: World):
    first = started(world, a_mig_pod("a", main=("1g", 3)))

    said = refused(world, a_mig_pod("b", main=("3g", 0)))

    assert said == f"pod default/b was granted memory slices 3 of card {CARD}, held by default/a"
    assert [one.uuid for one in driver(world).instances(CARD)] == [first]


@pytest.mark.parametrize(("profile", "start"), [("3g", 2), ("2g", 6), ("1g", 7)])
def test_a_grant_at_a_place_where_no_such_instance_can_lie_is_refused(world: World, profile: str, start: int):
    memory, cores, size = SIZES[profile]
    pod = a_mig_pod("a", main=(profile, 0))
    place = place_at(start, min(size, 8 - start)).adds
    moved = Grant((ContainerGrant("main", (Slice(CARD, "nvidia", memory, cores, place),)),))
    pod["metadata"]["annotations"] = a_pod(grant=moved)["metadata"]["annotations"]

    assert f"was granted {memory:,} MiB and {cores} % of the cores at memory slice {start}" in refused(world, pod)
    assert lies(world) == []


def test_an_init_container_gives_its_place_to_the_app_after_it(world: World):
    pod = a_mig_pod("a", init=("1g", 5), main=("3g", 4))
    admitted = world.bind(pod)
    world.kubelet.start_container(admitted, "init")
    assert lies(world) == [(5, 1)]

    ended = {"name": "init", "state": {"terminated": {"exitCode": 0}}}
    world.kube.put({**pod, "status": {**pod["status"], "initContainerStatuses": [ended]}})
    world.kubelet.start_container(admitted, "main")

    assert lies(world) == [(4, 4)]


# ---- faults
def test_a_fault_that_names_an_instance_is_published_for_its_pod_alone(tmp_path: Path):
    log = tmp_path / "kmsg"
    log.touch()
    with a_world(tmp_path, kernel_log=str(log)) as world:
        (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"cards": [MIG]}))
        world.run(slots=7)
        started(world, a_mig_pod("a", main=("3g", 0)))
        started(world, b := a_mig_pod("b", main=("3g", 4)))
        number = next(one.id for one in driver(world).instances(CARD) if one.start == 4)

        write(log, f"NVRM: Xid (PCI:0000:01:00 GPU-I:{number:02}): 48, pid=1, name=a, double bit")
        until(lambda: published(world).hurt != (), lambda: published(world))
        (hurt,) = published(world).hurt

        assert (hurt.uid, hurt.start, hurt.code) == (b["metadata"]["uid"], 4, 48)
        assert hurt.cause == f"MIG instance {number} at memory slice 4: XID 48 (double-bit ECC error)"
        assert evicted(world.kube) == ["b"]


def published(world: World) -> Geometry:
    text = world.kube.get(f"/api/v1/nodes/{NODE}")["metadata"]["annotations"][KEY]
    return next((card.mig for card in parse_inventory(text) if card.mig is not None), Geometry(()))


# ---- what a kill leaves behind
def an_instances(tmp_path: Path) -> tuple[Instances, Any, Files]:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"cards": [MIG]}))
    mig = SimulatedProbe(str(fleet), NODE).mig
    files = Files(str(tmp_path / "state"), str(tmp_path / "cdi"), None, NodeSpecs((), ()))
    return Instances(files, {"nvidia": mig}), mig, files


def test_an_instance_made_just_before_a_kill_is_known_by_its_place_and_removed_with_its_pod(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    about_to = Record(CARD, 4, 4, 9, "uid-a")
    files.write_instance(about_to.stem, render_record(about_to))
    mig.make(CARD, 9, 4)

    assert instances.reclaim({"uid-a"}, {CARD: "nvidia"}) == 0
    assert instances.reclaim(set(), {CARD: "nvidia"}) == 1
    assert (mig.instances(CARD), instances.records()) == ((), ())


def test_an_instance_that_was_there_before_is_never_taken_for_the_one_that_was_about_to_be_made(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    theirs = mig.make(CARD, 9, 4)
    about_to = Record(CARD, 4, 4, 9, "uid-a", before=(theirs.uuid,))
    files.write_instance(about_to.stem, render_record(about_to))

    assert instances.reclaim(set(), {CARD: "nvidia"}) == 0
    assert (mig.instances(CARD), instances.records()) == ((theirs,), ())


def test_a_damaged_record_hides_nothing_and_removes_nothing(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    made = mig.make(CARD, 19, 0)
    files.write_instance(f"{CARD}.0", "{")

    assert instances.reclaim(set(), {CARD: "nvidia"}) == 0
    assert mig.instances(CARD) == (made,)


def test_an_instance_in_use_stays_until_its_process_has_ended(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    made = mig.make(CARD, 19, 0)
    record = Record(CARD, 0, 1, 19, "uid-a", made.uuid)
    files.write_instance(record.stem, render_record(record))

    def busy(card: str, instance: int) -> None:
        raise MigError("in use", busy=True)

    once, mig.destroy = mig.destroy, busy
    assert instances.reclaim(set(), {CARD: "nvidia"}) == 0
    assert instances.records() == (record,)
    mig.destroy = once
    assert instances.reclaim(set(), {CARD: "nvidia"}) == 1


def test_a_fault_ends_with_its_instance_and_an_older_one_is_not_that_of_a_younger_instance(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    made = mig.make(CARD, 9, 4)
    record = Record(CARD, 4, 4, 9, "uid-a", made.uuid, number=made.id, made=1_000)
    files.write_instance(record.stem, render_record(record))
    before, after, beside = (Fault(at, CARD, 48, Signal.KERNEL, "", f"0{number}") for at, number in TIMES)

    assert not instances.hurt(CARD, before, "XID 48")
    assert not instances.hurt(CARD, beside, "XID 48")
    assert instances.hurt(CARD, after, "XID 48")
    seen = SimulatedProbe(str(tmp_path / "fleet.yaml"), NODE).cards()[0]
    hurt = Hurt(4, "uid-a", 48, "MIG instance 1 at memory slice 4: XID 48", 1_001)
    assert Instances(files, {"nvidia": mig}).others(seen).mig.hurt == (hurt,)  # type: ignore[union-attr]
    instances.reclaim(set(), {CARD: "nvidia"})
    assert instances.others(seen).mig.hurt == ()  # type: ignore[union-attr]


def test_lost_records_are_written_again_from_pods_that_run(world: World):
    uuid = started(world, pod := a_mig_pod("a", main=("2g", 2)))
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "containerID": "containerd://1"}]}
    world.kube.put({**pod, "status": status})
    world.stop_plugin()
    for record in (Path(world.settings.state_dir) / "instances").iterdir():
        record.unlink()

    world.restart_plugin(slots=13)
    assert started(world, {**pod, "status": status}) == uuid
    assert [(i.start, i.uuid) for i in driver(world).instances(CARD)] == [(2, uuid)]


def test_the_simulated_driver_refuses_what_a_driver_refuses(tmp_path: Path):
    _, mig, _ = an_instances(tmp_path)
    assert mig.make(CARD, 9, 4) == Instance(4, 4, 9, 1, mig.instances(CARD)[0].uuid)

    for profile, start, said in ((19, 5, "insufficient"), (9, 2, "cannot begin"), (99, 0, "no MIG profile")):
        with pytest.raises(MigError, match=said):
            mig.make(CARD, profile, start)
    mig.destroy(CARD, 7)
    mig.destroy(CARD, 1)
    assert mig.instances(CARD) == ()


def test_instances_are_metrics_with_their_pods(tmp_path: Path):
    instances, mig, files = an_instances(tmp_path)
    made = mig.make(CARD, 9, 4)
    record = Record(CARD, 4, 4, 9, "uid-a", made.uuid, number=made.id)
    files.write_instance(record.stem, render_record(record))
    node = LocalNode(NODE, instances.others)
    node.update_cards(SimulatedProbe(str(tmp_path / "fleet.yaml"), NODE).cards())
    pods = SimpleNamespace(pods=lambda: ({"metadata": {"uid": "uid-a", "namespace": "team", "name": "a"}},))

    own, hami = InstanceSeries(instances, node, pods, hami=True).collect()  # type: ignore[arg-type]

    assert [sample.labels for sample in own.samples] == [
        {"card": CARD, "profile": "3g.40gb", "start": "4", "size": "4", "uuid": made.uuid, "namespace": "team",
         "pod": "a"}
    ]  # fmt: skip
    assert [sample.labels["mig_uuid"] for sample in hami.samples] == [made.uuid]


def test_a_container_that_starts_again_takes_no_fault_off_its_instance(world: World):
    admitted = world.bind(a_mig_pod("a", main=("3g", 4)))
    world.kubelet.start_container(admitted, "main")
    (instance,) = driver(world).instances(CARD)
    state = Path(world.settings.state_dir)
    beside = Instances(Files(str(state), str(world.root / "cdi"), None, NodeSpecs((), ())), {})
    assert beside.hurt(CARD, Fault(time.time() + 1, CARD, 48, Signal.KERNEL, "", str(instance.id)), "XID 48")

    world.kubelet.start_container(admitted, "main")

    assert [record.hurt.code for record in beside.records() if record.hurt] == [48]


def test_a_removed_instance_counts_as_kerfs_for_a_minute_because_a_driver_may_use_its_uuid_again(tmp_path: Path):
    _, mig, files = an_instances(tmp_path)
    now = [0.0]
    instances = Instances(files, {"nvidia": mig}, lambda: now[0])
    made = mig.make(CARD, 9, 4)
    record = Record(CARD, 4, 4, 9, "uid-a", made.uuid, number=made.id)
    files.write_instance(record.stem, render_record(record))
    seen = SimulatedProbe(str(tmp_path / "fleet.yaml"), NODE).cards()[0]
    instances.reclaim(set(), {CARD: "nvidia"})

    taken = []
    for moment in (0.0, 59.0, 61.0):
        now[0] = moment
        geometry = instances.others(seen).mig
        taken.append(geometry.taken if geometry else None)

    assert taken == [(), (), (made,)]
