"""The scheduler's answer: one of the kinds, where there is room, cheap first, and never more than there is."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.config.prices import read_prices
from kerf.pricing.prices import PriceList
from kerf.testing.builders import a_card, a_node, a_pod
from kerf.values.accepts import AcceptsOrder, AcceptsSettings, Chosen
from kerf.values.grant import Grant, card_uses
from kerf.values.policy import SchedulingPolicy
from kerf.values.quota import Share
from kerf.vendors.registry import VENDORS
from kerf.wire.accepts import CHOSEN, render_chosen
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.choosing import KindAnswer, KindQuestion, parse_kind, render_question
from kerf.wire.errors import WireError
from kerf.wire.gangs import GANG, GANG_SIZE
from scheduler.choosing.chooser import Chooser
from scheduler.choosing.memory import LONGEST_S, UNSEEN_S, Memory
from scheduler.quota.capacity import capacity
from scheduler.quota.shares import divide
from scheduler.state.answers import ByCards
from scheduler.state.store import Store, load
from tests.scheduler.quota.tenants import tenant

A100, H100 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"
AMPERE, HOPPER, ASCEND = "nvidia.com/gpu:A100", "nvidia.com/gpu:H100", "huawei.com/Ascend910B3"
PRICES = read_prices(None)
DEFAULT = SchedulingPolicy()


def a_gpu_node(name: str, model: str, cards: int = 1) -> dict[str, Any]:
    return a_node(name, tuple(a_card(i, id=f"{name}-{i}", model=model, memory_mib=80_000) for i in range(cards)))


def an_ascend_node(name: str, cards: int = 1) -> dict[str, Any]:
    card = {"count": 4, "devmem": 65_536, "devcore": 20, "type": "Ascend910B3", "health": True}
    devices = [{"id": f"{name}-{i}", "index": i, **card} for i in range(cards)]
    amounts = {"cpu": "96", "memory": "768Gi", "huawei.com/Ascend910B3": str(4 * cards)}
    notes = {"hami.io/node-register-Ascend910B3": json.dumps(devices)}
    return {"kind": "Node", "metadata": {"name": name, "annotations": notes}, "status": {"allocatable": amounts}}


def a_kind(name: str, memory: int = 32_768, pod: str = "new", **changes: Any) -> tuple[str, dict[str, Any]]:
    """A pod as it would be stored on a kind."""
    count, _, models = name.partition(":")
    words = {AMPERE: "nvidia.com/gpumem", HOPPER: "nvidia.com/gpumem", ASCEND: f"{ASCEND}-memory"}[name]
    notes = {"nvidia.com/use-gputype": models} if models else {}
    container = {"name": "main", "resources": {"limits": {count: "1", words: str(memory)}}}
    made = a_pod(pod, annotations=notes | changes.pop("annotations", {}), containers=[container], uid="", **changes)
    return name, made


class World:
    """A scheduler and its clock."""

    def __init__(self, *nodes: dict[str, Any], policy: SchedulingPolicy = DEFAULT, prices: PriceList = PRICES) -> None:
        self.now = 100.0
        self.store = Store(policy, VENDORS, clock=lambda: self.now)
        load(self.store, nodes, [])
        self.memory = Memory(lambda: self.now)
        names = iter(f"p-{i}" for i in range(10_000))
        self.chooser = Chooser(self.store, lambda: prices, self.memory, lambda: next(names))

    def ask(self, *kinds: tuple[str, dict[str, Any]], keep: bool = True) -> KindAnswer:
        return parse_kind(self.chooser.answer(render_question(KindQuestion(kinds, keep))))

    def create(self, name: str, kind: tuple[str, dict[str, Any]], answer: KindAnswer | None = None) -> dict[str, Any]:
        """The pod is stored with its kind, and waits."""
        pod = kind[1] | {"metadata": {**kind[1]["metadata"], "name": name, "uid": f"uid-{name}"}}
        if answer:
            chosen = Chosen(answer.kind, answer.why, answer.promise, 0, (AMPERE, HOPPER))
            pod["metadata"]["annotations"] = {**pod["metadata"]["annotations"], CHOSEN: render_chosen(chosen)}
        self.store.feed.apply_pod("ADDED", pod)
        return pod

    def bind(self, pod: dict[str, Any]) -> None:
        """What kube-scheduler and the API server do."""
        ask, stages = self.store.desk.read(pod)
        where = self.store.desk.fits(ask, self.store.desk.node_names())
        assert isinstance(where, ByCards)
        node = where.fits[0]
        grant = self.store.desk.assume(ask, node, stages)
        assert isinstance(grant, Grant)
        notes = {**pod["metadata"]["annotations"], GRANT: render_grant(grant)}
        bound = {"metadata": {**pod["metadata"], "annotations": notes}, "spec": {**pod["spec"], "nodeName": node}}
        self.store.feed.apply_pod("MODIFIED", pod | bound)


def test_the_cheaper_throughput_is_chosen_whatever_comes_first() -> None:
    world = World(a_gpu_node("h", H100), a_gpu_node("a", A100))
    rows = {AMPERE: PRICES.of(A100), HOPPER: PRICES.of(H100)}
    cheap = min(rows, key=lambda kind: float(rows[kind].per_hour) / rows[kind].throughput)

    both = [a_kind(HOPPER), a_kind(AMPERE)]

    assert [world.ask(*order, keep=False).kind for order in (both, both[::-1])] == [cheap, cheap]


@pytest.mark.parametrize(("order", "kind"), [(AcceptsOrder.LISTED, ASCEND), (AcceptsOrder.PRICE, AMPERE)])
def test_the_policy_says_what_is_better(order: AcceptsOrder, kind: str) -> None:
    policy = SchedulingPolicy(accepts=AcceptsSettings(order=order))
    prices = replace(PRICES, prices=tuple(row for row in PRICES.prices if row.model == A100))
    world = World(an_ascend_node("n"), a_gpu_node("a", A100), policy=policy, prices=prices)

    assert world.ask(a_kind(ASCEND), a_kind(AMPERE)).kind == kind


def test_a_kind_without_room_is_passed_by_and_the_answer_says_why() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    world.bind(world.create("big", a_kind(HOPPER, 70_000)))

    answer = world.ask(a_kind(HOPPER), a_kind(ASCEND))

    assert (answer.kind, answer.fits) == (ASCEND, True)
    assert "nvidia.com/gpu:H100: does not fit:" in answer.why


def test_where_nothing_fits_the_first_kind_that_could_ever_fit_is_waited_for() -> None:
    world = World(a_gpu_node("h", H100))
    world.bind(world.create("big", a_kind(HOPPER, 70_000)))

    answer = world.ask(a_kind(AMPERE), a_kind(HOPPER))

    assert (answer.kind, answer.fits, answer.promise) == (HOPPER, False, "")
    assert answer.why.startswith("fits nowhere now, so it waits for nvidia.com/gpu:H100:")


def test_node_selectors_and_cpu_count() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    here = {"spec": {"nodeSelector": {"zone": "far"}}}

    assert not world.ask(a_kind(HOPPER, **here), a_kind(ASCEND, **here)).fits


def test_fifty_pods_made_at_once_share_the_places_that_there_are() -> None:
    world = World(a_gpu_node("h", H100, 4), an_ascend_node("n", 4))

    answers = [world.ask(a_kind(HOPPER, 40_000), a_kind(ASCEND)) for _ in range(50)]

    fitting = [answer.kind for answer in answers if answer.fits]
    assert (fitting.count(HOPPER), fitting.count(ASCEND)) == (8, 8)
    assert len({answer.promise for answer in answers if answer.fits}) == 16


def test_a_question_that_keeps_nothing_leaves_no_trace() -> None:
    world = World(a_gpu_node("h", H100))

    answers = [world.ask(a_kind(HOPPER, 70_000), a_kind(ASCEND), keep=False) for _ in range(3)]

    assert [answer.fits for answer in answers] == [True] * 3
    assert world.store.ledger.bookings() == []


def test_a_promise_ends_when_its_pod_is_bound_or_does_not_come() -> None:
    world = World(a_gpu_node("h", H100))
    kinds = (a_kind(HOPPER, 40_000), a_kind(AMPERE))
    first = world.ask(*kinds)
    pod = world.create("first", kinds[0], first)
    assert len(world.memory.promised({first.promise})) == 1

    world.bind(pod)
    assert [world.ask(*kinds).fits for _ in range(2)] == [True, False]  # one is held, one promised

    world.now += UNSEEN_S + 0.1
    assert world.ask(*kinds).fits


def test_a_pod_that_waits_keeps_its_promise_for_a_bounded_time() -> None:
    world = World(a_gpu_node("h", H100))
    answer = world.ask(a_kind(HOPPER), a_kind(AMPERE))
    seen = set()
    for seconds in (0.0, LONGEST_S - 1, 2.0):
        world.now += seconds
        seen.add((seconds, len(world.memory.promised({answer.promise}))))

    assert seen == {(0.0, 1), (LONGEST_S - 1, 1), (2.0, 0)}


def test_a_scarce_kind_is_kept_for_a_pod_that_can_use_nothing_else() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    kinds = (a_kind(HOPPER, 40_000), a_kind(ASCEND))
    assert world.ask(*kinds, keep=False).kind == HOPPER

    world.create("only-hopper", a_kind(HOPPER, 70_000))
    answer = world.ask(*kinds)

    assert answer.kind == ASCEND
    assert "but default/only-hopper waits and can use nothing else" in answer.why


def test_a_waiting_pod_that_no_card_could_hold_makes_nothing_scarce() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    world.create("too-large", a_kind(HOPPER, 90_000))

    assert world.ask(a_kind(HOPPER), a_kind(ASCEND)).kind == HOPPER


def test_a_waiting_pod_that_quota_refuses_makes_nothing_scarce() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    found = capacity(world.store.desk.nodes(), DEFAULT)
    world.store.feed.set_quota(
        divide([tenant("default", Share(memory_mib=50_000), burst=Share(memory_mib=0))], found), found, {}
    )
    world.create("beyond-quota", a_kind(HOPPER, 70_000))

    answer = world.ask(a_kind(HOPPER, 40_000), a_kind(ASCEND))

    assert (answer.kind, "waits and can use nothing else" in answer.why) == (HOPPER, False)


def test_a_kind_that_the_owners_last_pod_waited_for_without_success_comes_last_for_a_while() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n"))
    made = {"controller": True, "uid": "rs-1", "kind": "ReplicaSet", "name": "rs"}

    def kinds() -> list[tuple[str, dict[str, Any]]]:
        found = [a_kind(HOPPER), a_kind(ASCEND)]
        for _, pod in found:
            pod["metadata"]["ownerReferences"] = [made]
        return found

    world.memory.waits_too_long("rs-1", HOPPER, 60.0)

    assert world.ask(*kinds(), keep=False).kind == ASCEND
    assert world.ask(a_kind(HOPPER), a_kind(ASCEND), keep=False).kind == HOPPER
    world.now += 61
    assert world.ask(*kinds(), keep=False).kind == HOPPER


def test_all_pods_of_a_gang_get_one_kind_with_room_for_all() -> None:
    world = World(a_gpu_node("h", H100), an_ascend_node("n", 2))
    gang = {"annotations": {GANG_SIZE: "3"}, "labels": {GANG: "g"}}
    kinds = (a_kind(HOPPER, 40_000, **gang), a_kind(ASCEND, **gang))

    answers = [world.ask(*kinds) for _ in range(3)]

    assert [answer.kind for answer in answers] == [ASCEND] * 3
    assert answers[1].why == "the other pods of gang default/g have it"


def test_a_new_leader_gives_a_gangs_pods_the_kind_of_those_that_wait() -> None:
    world = World(a_gpu_node("h", H100, 4), an_ascend_node("n", 4))
    gang = {"annotations": {GANG_SIZE: "3"}, "labels": {GANG: "g"}}
    world.create("first", a_kind(ASCEND, **gang), KindAnswer(ASCEND, "", promise="x"))

    assert world.ask(a_kind(HOPPER, **gang), a_kind(ASCEND, **gang)).kind == ASCEND


def test_quota_is_part_of_the_answer_and_promises_count_against_it() -> None:
    world = World(a_gpu_node("h", H100, 4), an_ascend_node("n", 4))
    quota = tenant("default", Share(memory_mib=80_000), burst=Share(memory_mib=0))
    found = capacity(world.store.desk.nodes(), DEFAULT)
    world.store.feed.set_quota(divide([quota], found), found, {})

    answers = [world.ask(a_kind(HOPPER, 40_000), a_kind(AMPERE)) for _ in range(3)]

    assert [answer.fits for answer in answers] == [True, True, False]
    assert "tenant" in answers[2].why


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"v": 2}', b'{"v": 1, "kinds": []}', b'{"v": 1, "kinds": [{"kind": ""}]}']
)
def test_a_question_that_cannot_be_read_is_a_clear_error(body: bytes) -> None:
    with pytest.raises(WireError):
        World().chooser.answer(body)


def test_the_question_has_no_more_of_a_pod_than_decides() -> None:
    name, pod = a_kind(HOPPER)
    pod["spec"]["volumes"] = [{"name": "x" * 1000}]
    pod["spec"]["containers"][0]["env"] = [{"name": "A", "value": "x" * 1000}]

    assert len(render_question(KindQuestion(((name, pod),)))) < 700


SIZES = st.sampled_from([10_000, 32_768, 40_000, 60_000])
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask", "bind", "vanish", "later"]), SIZES, SIZES), min_size=1, max_size=30
)


@given(STEPS, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
def test_an_answer_is_an_accepted_kind_and_never_promises_more_than_there_is(
    steps: list[tuple[str, int, int]], hoppers: int, amperes: int, ascends: int
) -> None:
    nodes = [
        *([a_gpu_node("h", H100, hoppers)] if hoppers else []),
        *([a_gpu_node("a", A100, amperes)] if amperes else []),
        *([an_ascend_node("n", ascends)] if ascends else []),
    ]
    world, waiting = World(*nodes), []
    for number, (step, one, other) in enumerate(steps):
        if step == "ask":
            kinds = (a_kind(HOPPER, one), a_kind(AMPERE, other), a_kind(ASCEND, 30_000))
            answer = world.ask(*kinds)
            assert answer.kind in {HOPPER, AMPERE, ASCEND}
            if answer.fits:
                kind = next(kind for kind in kinds if kind[0] == answer.kind)
                waiting.append(world.create(f"pod-{number}", kind, answer))
        elif step == "bind" and waiting:
            world.bind(waiting.pop(0))  # a pod that was promised a place has one
        elif step == "vanish" and waiting:
            world.store.feed.apply_pod("DELETED", waiting.pop())
        elif step == "later":
            world.now += 1.0
        _no_card_is_promised_twice(world)


def _no_card_is_promised_twice(world: World) -> None:
    pending = {w.ask.chosen.promise for w in world.store.desk.waiting() if w.ask.chosen}
    for state in world.store.desk.states():
        promised = [one for one in world.memory.promised(pending) if one.holding.node == state.name]
        for card in state.cards:
            uses = [card_uses(one.holding.grant, one.holding.stages).get(card.card.id) for one in promised]
            assert card.used.memory_mib + sum(use.memory_mib for use in uses if use) <= card.card.memory_mib
            assert card.used.cores + sum(use.cores for use in uses if use) <= card.card.cores


def test_the_answers_body_is_json() -> None:
    world = World(a_gpu_node("h", H100))

    body = world.chooser.answer(render_question(KindQuestion((a_kind(HOPPER),))))

    assert set(orjson.loads(body)) == {"v", "kind", "why", "fits", "promise"}
