"""What holds for every pod, however strange."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.admission import Review
from kerf.wire.annotations import GRANT, HAMI_STATE, owned_annotation, owned_label
from kerf.wire.resources import parse_pod
from tests.webhook.json_patch import apply
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

SETTINGS = st.builds(
    Settings,
    st.just(VENDORS),
    defaults=st.builds(
        Defaults,
        memory_mib=st.sampled_from([0, 4000]),
        cores=st.sampled_from([0, 10]),
        cards=st.integers(1, 3),
        whole_card_cores=st.booleans(),
    ),
    runtime_classes=st.sampled_from([{}, {"nvidia": "nvidia"}]),
)
AMOUNTS = st.sampled_from(["0", "1", "2", "8k", "8000", "100", "150", "3Gi", "-1", "x", 1, 30, 1.5, None])
RESOURCES = st.dictionaries(st.sampled_from([*NAMES[0].all, "cpu", "memory"]), AMOUNTS, max_size=5)
ENTRIES = st.sampled_from([{"name": "A"}, {"name": "CUDA_TASK_PRIORITY", "value": "1"}])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b", "c"])},
        optional={
            "resources": st.fixed_dictionaries(
                {}, optional={"limits": RESOURCES | st.none(), "requests": RESOURCES | st.none(), "claims": st.just([])}
            ),
            "env": st.lists(ENTRIES, max_size=3) | st.none(),
            "restartPolicy": st.just("Always"),
            "futureField": st.integers(),
        },
    ),
    max_size=3,
)
KEYS = st.sampled_from(
    [GRANT, *sorted(HAMI_STATE), "kerf.dev/plan-b", "hami.io/x-devices-allocated", "hami.io/webhook", "a/~b", ""]
)
NOTES = st.dictionaries(KEYS, st.sampled_from(["ignore", "x", "{}"]), max_size=4)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries({"name": st.just("p")}, optional={"annotations": NOTES, "labels": NOTES}),
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS},
            optional={
                "initContainers": CONTAINERS,
                "schedulerName": st.sampled_from(["", "default-scheduler", "volcano"]),
                "runtimeClassName": st.none(),
                "nodeName": st.sampled_from(["", "node-1"]),
                "futureField": st.integers(),
            },
        ),
    }
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab1/~é ", max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1/~é ", max_size=9), inner, max_size=3),
    max_leaves=9,
)


def create(pod: Any, settings: Settings) -> Any:
    return mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), settings)


def update(new: Any, old: Any) -> Any:
    return mutate(Review("u", "UPDATE", "Pod", "default", "joe", new, old), Settings(VENDORS))


@given(PODS, SETTINGS)
def test_admitting_an_admitted_pod_changes_nothing(pod: dict[str, Any], settings: Settings) -> None:
    first = create(pod, settings)
    if first.allowed:
        again = create(apply(pod, first.patch), settings)

        assert (again.allowed, again.patch) == (True, ())


@given(PODS, SETTINGS)
def test_the_scheduler_reads_the_stored_pod_as_the_webhook_read_the_sent_one(
    pod: dict[str, Any], settings: Settings
) -> None:
    answer = create(pod, settings)
    if answer.allowed and answer.patch:
        stored = apply(pod, answer.patch)
        try:
            before = parse_pod(pod, NAMES, settings.defaults)
        except ValueError:
            return  # it opted out of being read
        assert parse_pod(stored, NAMES, settings.defaults) == before


@given(PODS, SETTINGS)
def test_every_operation_is_needed(pod: dict[str, Any], settings: Settings) -> None:
    patched = copy.deepcopy(pod)
    for operation in create(pod, settings).patch:
        before, patched = patched, apply(patched, (operation,))
        assert before != patched


@given(PODS, SETTINGS)
def test_no_forgery_survives_and_no_word_of_the_user_is_lost(pod: dict[str, Any], settings: Settings) -> None:
    answer = create(pod, settings)
    if not answer.allowed:
        return
    stored = apply(pod, answer.patch)
    for part, owned in (("annotations", owned_annotation), ("labels", owned_label)):
        sent = pod["metadata"].get(part, {})
        assert stored["metadata"].get(part, {}) == {key: value for key, value in sent.items() if not owned(key)}
    assert stored["spec"].get("futureField") == pod["spec"].get("futureField")
    for sent, kept in zip(pod["spec"]["containers"], stored["spec"]["containers"], strict=True):
        assert {**kept, "resources": 0, "env": 0} == {**sent, "resources": 0, "env": 0}


@given(PODS, PODS)
def test_an_update_keeps_what_was_there_and_takes_the_rest(old: dict[str, Any], new: dict[str, Any]) -> None:
    answer = update(new, old)

    stored = apply(new, answer.patch)
    for part, owned in (("annotations", owned_annotation), ("labels", owned_label)):
        before, sent = old["metadata"].get(part, {}), new["metadata"].get(part, {})
        kept = {key: value for key, value in before.items() if owned(key)}
        taken = {key: value for key, value in sent.items() if not owned(key)}
        assert stored["metadata"].get(part, {}) == kept | taken
    assert (answer.allowed, stored["spec"]) == (True, new["spec"])
    assert update(stored, old).patch == ()


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), JSON), st.sampled_from(["CREATE", "UPDATE"]))
def test_no_pod_is_strange_enough_to_raise(pod: dict[str, Any], operation: str) -> None:
    mutate(Review("u", operation, "Pod", "default", "joe", pod, pod), Settings(VENDORS))
