"""Which pods the lane takes, in which order, and how a batch goes on."""

from typing import Any

from kerf.testing.builders import a_pod
from kerf.vendors.registry import NAMES
from scheduler.express.decide import Miss, batch, in_order
from scheduler.express.seen import Pending, see

WORDS = frozenset(name for names in NAMES for name in names.all)
VOLUME = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}
TRIED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]


def pending(name: str, created: int = 0, conditions: Any = None, **spec: Any) -> Pending:
    pod = a_pod(name, containers=spec.pop("containers", None), spec={"schedulerName": "kerf-scheduler", **spec})
    pod["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{created:02}Z"
    pod["status"]["conditions"] = conditions or []
    seen = see("ADDED", pod, WORDS, frozenset())
    assert isinstance(seen, Pending)
    return seen


def names(pods: list[Pending]) -> list[str]:
    return [pod.name for pod in pods]


def uid(name: str) -> str:
    return f"uid-default-{name}"


def test_more_important_pods_come_first_and_older_ones_among_equals() -> None:
    queue = [
        pending("young", 9),
        pending("old", 1),
        pending("important", 9, priority=10),
        pending("least", priority=-1),
    ]

    assert names(in_order(queue, "", ())) == ["important", "old", "young", "least"]


def test_the_pod_at_the_door_and_those_that_kube_scheduler_has_are_not_taken() -> None:
    queue = [pending("at-the-door"), pending("passed"), pending("free")]

    assert names(in_order(queue, uid("at-the-door"), {uid("passed")})) == ["free"]


def test_a_pod_that_only_kube_scheduler_can_place_is_not_overtaken() -> None:
    queue = [pending("before", 1), pending("same-second", 2), pending("theirs", 2, **VOLUME), pending("behind", 3)]

    assert names(in_order(queue, "", ())) == ["before", "same-second"]


def test_a_pod_without_cards_in_the_same_queue_is_not_overtaken() -> None:
    """kube-scheduler does not ask about it."""
    plain = pending("plain", 2, containers=[{"name": "a", "resources": {"requests": {"cpu": "1"}}}])

    assert names(in_order([plain, pending("before", 1), pending("behind", 3)], "", ())) == ["before"]


def test_less_important_pods_do_not_overtake_it_either_and_more_important_ones_go_first() -> None:
    queue = [pending("theirs", 1, priority=5, **VOLUME), pending("more", 9, priority=9), pending("less", 0)]

    assert names(in_order(queue, "", ())) == ["more"]


def test_a_pod_that_no_scheduler_will_take_next_keeps_no_other_one_waiting() -> None:
    nominated, ending = (a_pod(name, spec={"schedulerName": "kerf-scheduler"}) for name in ("nominated", "ending"))
    nominated["status"]["nominatedNodeName"] = "node-1"
    ending["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/stuck"]}
    queue = [
        pending("refused", 0, TRIED, **VOLUME),
        pending("being-bound", 0, **VOLUME),
        pending("gated", 0, schedulingGates=[{"name": "kueue.x-k8s.io/admission"}]),
        *(see("ADDED", pod, WORDS, frozenset()) for pod in (nominated, ending)),
        pending("free", 5),
    ]

    assert names(in_order([p for p in queue if isinstance(p, Pending)], "", {uid("being-bound")})) == ["free"]


def test_a_pod_of_the_lane_that_was_refused_is_tried_again() -> None:
    assert names(in_order([pending("again", 0, TRIED)], "", ())) == ["again"]


def test_where_a_pod_finds_no_room_its_kind_is_passed_over_and_others_go_on() -> None:
    pods = [pending(name) for name in ("large-1", "small-1", "large-2", "small-2")]
    asked = []

    def seat(pod: Pending) -> str | Miss:
        asked.append(pod.name)
        return Miss.FULL if pod.name.startswith("large") else pod.name

    assert list(batch(pods, set(), lambda pod: pod.name[:5], seat, lambda: True)) == ["small-1", "small-2"]
    assert asked == ["large-1", "small-1", "small-2"]


def test_a_kind_that_is_known_to_be_full_is_passed_over_and_others_are_noted() -> None:
    full: set[object] = {"known"}
    pods = [pending(name) for name in ("known-1", "small-1", "other-1")]

    list(batch(pods, full, lambda p: p.name[:5], lambda p: Miss.FULL if p.name == "other-1" else p.name, lambda: True))

    assert full == {"known", "other"}


def test_a_pod_that_another_bind_has_speaks_for_itself_alone() -> None:
    pods = [pending(name) for name in ("a", "b")]

    assert list(
        batch(pods, set(), lambda _: 0, lambda pod: Miss.PASSED if pod.name == "a" else pod.name, lambda: True)
    ) == ["b"]


def test_a_batch_ends_when_its_time_is_over() -> None:
    left = [True, True, False]

    assert list(batch([pending(n) for n in "abc"], set(), lambda p: p, lambda p: p.name, lambda: left.pop(0))) == [
        "a",
        "b",
    ]


def test_when_a_batch_may_not_go_on_it_ends_and_no_later_pod_overtakes() -> None:
    """Also a pod of a kind that is full asks for nothing."""
    pods = [pending(name) for name in ("full-1", "full-2", "waits", "later")]
    asked: list[bool] = []

    def go_on() -> bool:
        asked.append(True)
        return len(asked) < 2

    assert (
        list(batch(pods, set(), lambda p: p.name[:4], lambda p: Miss.FULL if "full" in p.name else p.name, go_on)) == []
    )
    assert len(asked) == 2
