"""Failed cards and their tenants: who moves, who stays, and what survives the leader."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.health import Health, State
from kerf.values.policy import Pool, SchedulingPolicy
from kerf.values.recovery import AfterDeadline, RecoveryMode, RecoverySettings, Remedy
from tests.scheduler.recovery.world import NOW, RECOVER, World, broken, card_id, lost, owned, with_owner


def a_policy(**changes: Any) -> SchedulingPolicy:
    return SchedulingPolicy(recovery=RecoverySettings(**{"mode": RecoveryMode.RECOVER, **changes}))


def four_pods(**changes: Any) -> World:
    world = World(**changes).node("a").node("b")
    for index in range(4):
        world.run(f"p{index}", "a", index)
    return world


def test_a_lost_card_moves_its_own_tenants_and_nobody_else():
    world = four_pods()
    world.run("two-cards", "a", 1, 3)

    world.fail("a", 1, lost())

    assert world.round() == ["p1", "two-cards"]
    assert world.cordoned("a") == card_id("a", 1)
    assert world.events.said[0] == (
        "p1",
        "evicted because of card 1 (GPU-a-1) of node a: XID 79 (GPU has fallen off the bus)",
        {"kcover.io/need-recovery": "true"},
    )


@pytest.mark.parametrize(
    ("health", "cordoned"),
    [
        (broken(), card_id("a", 1)),
        (Health(State.SUSPECT, "cannot be read", NOW), None),
        (Health(State.RECOVERING, "XID 79", NOW), None),
    ],
    ids=["needs a reset", "suspect", "recovering"],
)
def test_a_card_whose_tenants_may_stay_keeps_them(health: Health, cordoned: str | None):
    world = four_pods()

    world.fail("a", 1, health)

    assert (world.round(), world.cordoned("a")) == ([], cordoned)


@pytest.mark.parametrize(("mode", "cordoned"), [(RecoveryMode.OBSERVE, None), (RecoveryMode.CORDON, card_id("a", 1))])
def test_a_policy_that_only_looks_or_cordons_evicts_nobody(mode: RecoveryMode, cordoned: str | None):
    world = four_pods(policy=a_policy(mode=mode))

    world.fail("a", 1, lost())

    assert (world.round(), world.cordoned("a"), world.evictions()) == ([], cordoned, [])


def test_a_pool_has_a_mode_of_its_own():
    pool = Pool("serving", (("pool", "serving"),), recovery=RecoveryMode.OBSERVE)
    world = four_pods(policy=replace(RECOVER, pools=(pool,)), labels={"pool": "serving"})

    world.fail("a", 1, lost())

    assert world.round() == []


def test_a_dry_run_says_what_it_would_do_once_and_does_nothing():
    world = four_pods(policy=a_policy(dry_run=True))
    world.fail("a", 1, lost())

    assert [world.round(5.0) for _ in range(3)] == [[]] * 3
    assert [message for _, message, _ in world.events.said] == [
        "dry run: would evict default/p1 because of XID 79 (GPU has fallen off the bus) of GPU-a-1"
    ]


def test_a_budget_holds_an_eviction_and_it_is_retried():
    world = four_pods(budgets={"p1"})
    world.fail("a", 1, lost())

    assert [world.round(2.0) for _ in range(5)] == [[]] * 5
    assert 2 <= len(world.evictions()) <= 3  # every five seconds
    world.budgets.clear()

    assert world.round(5.0) == ["p1"]


@pytest.mark.parametrize(("after", "expected"), [(AfterDeadline.WAIT, []), (AfterDeadline.DELETE, ["p1"])])
def test_after_the_deadline_the_policy_decides(after: AfterDeadline, expected: list[str]):
    world = four_pods(budgets={"p1"}, policy=a_policy(deadline_s=60.0, after_deadline=after))
    world.fail("a", 1, lost())
    assert [world.round(10.0) for _ in range(5)] == [[]] * 5

    assert world.round(20.0) == expected


def test_the_leader_that_is_killed_between_cordon_and_eviction_is_followed_by_one_that_evicts():
    world = four_pods()
    world.fail("a", 1, lost())
    world.kube.after = lambda method, path: exec("raise KeyboardInterrupt") if method == "PATCH" else None
    with pytest.raises(KeyboardInterrupt):
        world.round()
    world.kube.after = lambda method, path: None
    assert (world.cordoned("a"), world.evictions()) == (card_id("a", 1), [])

    world.lead()

    assert world.round() == ["p1"]


def test_a_card_that_is_well_again_is_given_back_and_peoples_cordons_stay():
    world = four_pods()
    world.kube.patch("/api/v1/nodes/a", {"metadata": {"annotations": {"kerf.dev/cordon": card_id("a", 3)}}})
    world.fail("a", 1, lost())
    world.round()
    world.fail("a", 1, Health(State.RECOVERING, "XID 79", NOW + 30))
    assert (world.round(5.0), world.cordoned("a")) == (["p1"], card_id("a", 1))

    world.fail("a", 1, Health(since=NOW + 60, falls=1))
    world.round(5.0)

    assert world.cordoned("a") is None
    assert world.kube.get("/api/v1/nodes/a")["metadata"]["annotations"]["kerf.dev/cordon"] == card_id("a", 3)


def test_when_recovery_is_switched_off_nothing_stays_cordoned():
    world = four_pods(policy=a_policy(mode=RecoveryMode.CORDON))
    world.fail("a", 1, lost())
    world.round()

    world.store.feed.set_policy(SchedulingPolicy())
    world.round(6.0)

    assert (world.cordoned("a"), world.gone) == (None, [])


def test_half_of_a_pool_at_once_opens_the_breaker_and_a_quiet_period_or_a_person_closes_it():
    world = World().node("a").node("b")
    for index in range(4):
        world.run(f"a{index}", "a", index)
        world.run(f"b{index}", "b", index)
    for index in range(2):
        world.fail("a", index, lost())
        world.fail("b", index, lost())

    assert world.round() == []
    assert (world.condition("a"), world.cordoned("a")) == ("True", "GPU-a-0,GPU-a-1")
    assert [world.round(60.0) for _ in range(10)] == [[]] * 10
    world.kube.patch("/api/v1/nodes/a", {"metadata": {"annotations": {"kerf.dev/recovery-resume": str(NOW + 600)}}})
    world._sync()

    assert world.round(5.0) == ["a0", "a1", "b0", "b1"]
    assert world.condition("a") == "False"


def test_a_burst_that_is_seen_card_by_card_within_a_second_evicts_nobody():
    world = World().node("a")
    for index in range(4):
        world.run(f"a{index}", "a", index)
    for index in range(4):
        world.fail("a", index, lost())
        world.recovery.run_once()
        world.wait(0.3)

    assert world.round() == []
    assert world.condition("a") == "True"


def test_the_breaker_stays_open_while_cards_come_back_one_by_one():
    world = World().node("a").node("b")
    for name in "ab":
        for index in range(2):
            world.run(f"{name}{index}", name, index)
            world.fail(name, index, lost())
    assert world.round() == []

    world.fail("a", 0, Health(State.RECOVERING, "XID 79", NOW + 30))
    world.fail("a", 1, Health(State.RECOVERING, "XID 79", NOW + 30))

    assert world.round(30.0) == []
    assert world.round(900.0) == ["b0", "b1"]


def test_a_driver_upgrade_of_a_node_evicts_nobody_there():
    world = four_pods(labels={"nvidia.com/gpu-driver-upgrade-state": "pod-restart-required"})

    world.fail("a", 1, lost())

    assert (world.round(), world.condition("a")) == ([], "True")


def test_a_place_is_reserved_for_the_successor_before_the_eviction():
    world = World().node("a", 1).node("b", 1)
    world.put(with_owner(world.run("p0", "a", 0, mib=80_000), owned("rs-1")))
    reserved: list[int] = []
    world.kube.after = lambda method, path: (
        reserved.append(sum(b.uid.endswith("/successor") for b in world.store.ledger.bookings()))
        if path.endswith("/eviction")
        else None
    )
    world.fail("a", 0, lost())
    assert (world.round(), reserved) == (["p0"], [1])

    stranger = world.put(a_waiting_pod("stranger", "rs-2"))
    successor = world.put(a_waiting_pod("successor", "rs-1"))

    assert where(world, stranger) == []
    assert where(world, successor) == ["b"]


def test_a_place_is_given_back_while_a_budget_holds_the_pod():
    world = World(budgets={"p0"}).node("a", 1).node("b", 1)
    world.put(with_owner(world.run("p0", "a", 0, mib=80_000), owned("rs-1")))
    world.fail("a", 0, lost())

    world.round()

    assert where(world, world.put(a_waiting_pod("stranger", "rs-2"))) == ["b"]


def a_waiting_pod(name: str, owner: str) -> dict[str, Any]:
    from kerf.testing.builders import a_pod

    return with_owner(a_pod(name, mem=80_000, cores=10), owned(owner))


def where(world: World, pod: dict[str, Any]) -> list[str]:
    ask, _ = world.store.desk.read(pod)
    return world.store.desk.where(ask, ["a", "b"]).fits


def test_a_group_moves_as_one_and_its_held_member_holds_the_others_back_until_it_may_leave():
    labels = {"training.kubeflow.org/job-name": "train"}
    world = World(budgets={"w1"}).node("a").node("b")
    for index in range(2):
        world.run(f"w{index}", "a", index, labels=labels)
    world.run("w2", "b", 0, labels=labels)
    world.run("other", "b", 1)
    world.fail("a", 0, lost())
    assert world.round() == ["w2"]

    world.budgets.clear()

    assert world.round(5.0) == ["w0", "w1", "w2"]
    assert world.running() == ["other"]


def test_a_groups_hints_are_kept_on_its_controller():
    world = World().node("a").node("b")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "default"}}
    world.kube.put(job)
    notes = {"kerf.dev/checkpoint": "s3://bucket/step-900", "kerf.dev/model-cache": "/cache/llama"}
    pod = world.run("w0", "a", 0, annotations=notes)
    world.put(with_owner(pod, owned("job-1", "Job", "batch/v1", "train")))
    world.fail("a", 0, lost())

    assert world.round() == ["w0"]
    kept = world.kube.get("/apis/batch/v1/namespaces/default/jobs/train")["metadata"]["annotations"]
    assert kept == notes
    assert world.events.said[0][1].endswith("; its last checkpoint is s3://bucket/step-900")


TEMPLATE = '{"spec": {"template": {"spec": {"nodeName": "{node}", "containers": [{"name": "x", "args": ["{bus}"]}]}}}}'


def test_a_remedy_starts_once_when_the_card_is_free():
    world = four_pods(policy=a_policy(remedies=((Remedy.REBOOT_NODE, TEMPLATE),)), budgets={"p1"})
    world.fail("a", 1, lost(remedy="reboot-node"))
    world.round()
    assert world.kube.objects("/apis/batch") == []
    world.budgets.clear()
    world.round(5.0)

    for _ in range(3):
        world.round(5.0)
    world.lead()
    world.round(5.0)

    (job,) = world.kube.objects("/apis/batch")
    spec = job["spec"]["template"]["spec"]
    assert (spec["nodeName"], spec["containers"][0]["args"]) == ("a", ["0000:01:00"])
    assert job["metadata"]["annotations"]["kerf.dev/remedy-card"] == card_id("a", 1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lose"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("break"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("heal"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("round"), st.just(""), st.integers(0, 400)),
        st.tuples(st.just("kill"), st.just(""), st.integers(0, 6)),
        st.tuples(st.just("hold"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("release"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS)
def test_whatever_happens_only_tenants_of_lost_cards_leave_and_in_the_end_none_is_left(steps: list[Any]) -> None:
    world = World().node("a").node("b").node("c")
    for name in "abc":
        for index in range(4):
            world.run(f"{name}{index}", name, index)
    ever_lost: set[str] = set()
    for what, name, number in steps:
        if what == "lose":
            ever_lost.add(f"{name}{number}")
        step(world, what, name, number)
        assert set(world.gone) <= ever_lost

    world.budgets.clear()
    for _ in range(6):
        world.round(1000.0)
    doomed = {f"{n}{c.index}" for n, cards in world.nodes.items() for c in cards if c.health.moves}
    assert doomed <= set(world.gone) <= ever_lost


def step(world: World, what: str, name: str, number: int) -> None:
    match what:
        case "lose":
            world.fail(name, number, lost(int(world.now)))
        case "break":
            world.fail(name, number, broken(int(world.now)))
        case "heal":
            world.fail(name, number, Health(since=int(world.now), falls=1))
        case "round":
            world.round(number)
        case "kill":
            killed_after(world, number)
        case "hold":
            world.budgets.add(f"{name}{number}")
        case "release":
            world.budgets.clear()


def killed_after(world: World, writes: int) -> None:
    """The leader dies after so many writes took effect, and another one leads."""
    left = [writes]

    def die(_method: str, _path: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    world.kube.after = die
    try:
        world.now += 6
        world.monotonic += 6
        world.recovery.run_once()
    except KeyboardInterrupt:
        pass
    finally:
        world.kube.after = lambda method, path: None
    world.take_evictions()
    world.lead()


def test_a_tenant_leaves_only_once_no_gateway_leads_to_it_and_nothing_waits_for_it():
    world = four_pods()
    left: set[str] = set()
    world.recovery.after(lambda uid: uid != "uid-default-p1" or uid in left)

    world.fail("a", 1, lost())
    world.fail("a", 2, lost())

    assert world.round() == ["p2"]
    assert world.cordoned("a") == f"{card_id('a', 1)},{card_id('a', 2)}"
    left.add("uid-default-p1")
    assert world.round(seconds=1) == ["p1", "p2"]
