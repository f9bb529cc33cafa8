"""One number: what Kueue counts of a stored pod, what its ask comes to, and what a grant of it is charged."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from kerf.testing.builders import a_card
from kerf.values.device import Card
from kerf.values.grant import NO_USE, Grant
from kerf.values.policy import Defaults
from kerf.values.quota import DIMENSIONS, Usage, usage_of_ask, usage_of_grant
from kerf.values.vendor import words_of
from kerf.wire.resources import parse_pod, stages_of
from scheduler.core.place import place
from scheduler.core.state import CardState, NodeState
from tests.webhook.json_patch import apply
from tests.webhook.kubernetes_sums import pod_requests
from tests.webhook.tenants import BOTH, a_book, a_class_book, answer_to, settings_of
from webhook.core.settings import Settings

BOTH_WORDS = words_of(BOTH)
QUOTA = "quota.kerf.dev"
SIZES = st.sampled_from([16_384, 40_960, 81_559, 97_871])
DEFAULTS = st.builds(
    Defaults,
    memory_mib=st.sampled_from([0, 4000]),
    cores=st.sampled_from([0, 10]),
    cards=st.integers(1, 3),
    whole_card_cores=st.booleans(),
)


def amounts(prefix: tuple[str, str, str, str]) -> st.SearchStrategy[dict[str, str]]:
    count, memory, percent, cores = prefix
    return st.fixed_dictionaries(
        {},
        optional={
            count: st.sampled_from(["0", "1", "2", "3"]),
            memory: st.sampled_from(["0", "1", "1000", "8k", "12345"]),
            percent: st.sampled_from(["0", "1", "33", "50", "100"]),
            cores: st.sampled_from(["0", "10", "30", "100", "150"]),
            f"{QUOTA}/nvidia-mib": st.sampled_from(["1", "9k"]),
            "cpu": st.just("1"),
        },
    )


WORDS = [(names.count, names.memory, names.memory_percent, names.cores) for names in BOTH_WORDS]
RESOURCES = st.lists(st.sampled_from(WORDS).flatmap(amounts), min_size=1, max_size=2).map(
    lambda parts: {key: value for part in parts for key, value in part.items()}
)
SPECS = st.builds(
    lambda init, apps: {
        "initContainers": [
            {"name": f"i{n}", "resources": {"limits": r}} | ({"restartPolicy": "Always"} if sidecar else {})
            for n, (r, sidecar) in enumerate(init)
        ],
        "containers": [{"name": f"c{n}", "resources": {"limits": r}} for n, r in enumerate(apps)],
    },
    st.lists(st.tuples(RESOURCES, st.booleans()), max_size=3),
    st.lists(RESOURCES, min_size=1, max_size=3),
)


def a_tenant(sizes: tuple[int, int], defaults: Defaults) -> Settings:
    classes = (a_class_book(mib=sizes[0]), a_class_book("Acme One", sizes[1], "acme"))
    return settings_of([a_book(*classes)], vendors=BOTH, defaults=defaults)


def normalised(spec: dict[str, Any], settings: Settings) -> Any:
    pod = {"metadata": {"name": "p"}, "spec": spec}
    answer = answer_to(pod, settings)
    assume(answer.allowed)  # memory of no card is refused
    return apply(pod, answer.patch)


def by_vendor(usage: Usage) -> dict[str, int]:
    """A usage in the words of the quota resources."""
    words = {names.vendor: names.quota for names in BOTH_WORDS}
    return {
        name: value
        for vendor, amount in usage.by
        for name, dimension in zip(words[vendor], DIMENSIONS, strict=True)
        if (value := getattr(amount, dimension))
    }


@given(SPECS, st.tuples(SIZES, SIZES), DEFAULTS)
def test_kueues_sum_is_the_asks(spec: dict[str, Any], sizes: tuple[int, int], defaults: Defaults) -> None:
    stored = normalised(spec, a_tenant(sizes, defaults))

    sent, kept = (parse_pod(pod, BOTH_WORDS, defaults) for pod in ({"spec": spec}, stored))
    truth = {
        name: value
        for names, size in zip(BOTH_WORDS, sizes, strict=True)
        for name, value in by_vendor(usage_of_ask(sent, a_card(memory_mib=size))).items()
        if name in names.quota
    }
    assert pod_requests(stored["spec"], QUOTA) == truth
    assert kept.containers == sent.containers


@given(SPECS, st.tuples(SIZES, SIZES), DEFAULTS)
def test_kueues_sum_is_what_the_grant_is_charged(
    spec: dict[str, Any], sizes: tuple[int, int], defaults: Defaults
) -> None:
    stored = normalised(spec, a_tenant(sizes, defaults))
    cards = [
        Card(f"{names.vendor}-{i}", i, names.vendor, "m", size, slots=100)
        for names, size in zip(BOTH_WORDS, sizes, strict=True)
        for i in range(12)
    ]
    node = NodeState("n", tuple(CardState(card, NO_USE) for card in cards), 10**6, 10**6)

    grant = place(parse_pod(stored, BOTH_WORDS, defaults), node, ("binpack",), (1, 1, 1))

    assume(isinstance(grant, Grant))
    assert isinstance(grant, Grant)
    charged = usage_of_grant(grant, stages_of(stored["spec"]), {card.id: card.vendor for card in cards})
    assert pod_requests(stored["spec"], QUOTA) == by_vendor(charged)


@given(SPECS, st.tuples(SIZES, SIZES), DEFAULTS, st.booleans())
def test_normalising_twice_changes_nothing(
    spec: dict[str, Any], sizes: tuple[int, int], defaults: Defaults, several: bool
) -> None:
    settings = a_tenant(sizes, defaults)
    if several:
        classes = (a_class_book(mib=sizes[0]), a_class_book("Other", sizes[1]), a_class_book("Acme", 1, "acme"))
        settings = settings_of([a_book(*classes)], vendors=BOTH, defaults=defaults)
    stored = normalised(spec, settings)

    again = answer_to(stored, settings)
    assert (again.allowed, again.patch) == (True, ())
