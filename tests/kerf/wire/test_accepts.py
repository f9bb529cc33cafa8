"""What a pod accepts, and what it was given: every text is read, or refused with the field, the value and the fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.accepts import Accept, AcceptsMode, AcceptsOrder, AcceptsSettings, Changes, Chosen
from kerf.vendors.registry import NAMES
from kerf.wire.accepts import (
    ACCEPTS,
    CHOSEN,
    LONGEST_WHY,
    MOST_KINDS,
    WITH,
    parse_accepts,
    parse_accepts_settings,
    parse_chosen,
    render_chosen,
)
from kerf.wire.errors import WireError

GPU, ASCEND = "nvidia.com/gpu", "huawei.com/Ascend910B3"


def read(text: object, changes: object = None):
    return parse_accepts({ACCEPTS: text} | ({} if changes is None else {WITH: changes}), NAMES)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (GPU, (Accept(resource=GPU),)),
        (
            f"{GPU}:A100|H100, {ASCEND}",
            (Accept(("A100", "H100"), resource=GPU), Accept(resource=ASCEND)),
        ),
        (
            f"{GPU}:NVIDIA A100 80GB PCIe ; memory=24Gi;cores=30; cards=2 ,\n{ASCEND};memory=32768,",
            (
                Accept(("NVIDIA A100 80GB PCIe",), 24576, 30, 2, GPU),
                Accept((), 32768, None, None, ASCEND),
            ),
        ),
        (f"{GPU};container=server", (Accept(resource=GPU, container="server"),)),
        (f"{GPU}:H100;cores=0", (Accept(("H100",), None, 0, None, GPU),)),
    ],
    ids=["one", "models", "sizes", "a container", "no cores"],
)
def test_kinds_are_read_with_their_sizes(text: str, kinds: tuple[Accept, ...]) -> None:
    found = read(text)

    assert found is not None
    assert found.kinds == kinds


def test_what_a_pod_needs_on_a_kind_is_found_by_the_kind_or_its_resource() -> None:
    text = f"{GPU}:A100, {GPU}:H100, {ASCEND}"
    changes = f"""
    {GPU}: {{image: any}}
    {GPU}:H100: {{image: hopper, command: [serve], args: [--fp8], env: {{A: "1"}}, model: qwen3-8b}}
    """

    found = read(text, changes)

    assert found is not None
    assert found.changes == (
        Changes(image="any"),
        Changes("hopper", ("serve",), ("--fp8",), {"A": "1"}, "qwen3-8b"),
        Changes(),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "write RESOURCE[:MODEL|MODEL][;memory=MIB]"),
        (7, "write RESOURCE"),
        ("A100", "write RESOURCE"),
        ("nvidia.com/gpus", "no vendor counts its cards by it: use nvidia.com/gpu"),
        ("example.com/npu", "docs/vendors.md lists the resources"),
        (f"{GPU};mem=3", "write KEY=VALUE with one of cards, memory, cores, container"),
        (f"{GPU};memory=1;memory=2", "write it once"),
        (f"{GPU};memory=24k", "write MiB of each card"),
        (f"{GPU};memory=0", "write MiB of each card"),
        (f"{GPU};memory=50%", "write MiB of each card"),
        (f"{GPU};cores=101", "write percent of a card: a whole number from 0 to 100"),
        (f"{GPU};cards=0", "write cards: a whole number from 1 to 64"),
        (f"{GPU};container=A_", "write the name of a container"),
        (f"{GPU}:|", "names of models behind the colon"),
        (f"{GPU}:A|A", "name each model once"),
        (f"{ASCEND}:B3", "huawei.com/Ascend910B3 is one model of card: drop :B3"),
        (f"{GPU},{GPU}", "list each kind once"),
        (f"{GPU};container=a,{ASCEND};container=b", "write the same container for every kind"),
        ("metax-tech.com/gpu;memory=3", "no memory can be asked beside metax-tech.com/gpu: drop it"),
        ("enflame.com/drs-gcu;cards=2", "counts parts of one card: drop it"),
        (",".join(f"{GPU}:M{i}" for i in range(MOST_KINDS + 1)), f"list at most {MOST_KINDS}"),
        (GPU + " " * 5000, "at most 4096 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_fix(text: object, sentence: str) -> None:
    with pytest.raises(WireError, match=r"metadata\.annotations\[kerf\.dev/accepts\]") as caught:
        read(text)

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ("[", "write YAML"),
        ("- a", "write an object"),
        (f"{ASCEND}: {{image: x}}", f"use a kind of kerf.dev/accepts: {GPU}"),
        (f"{GPU}: {{images: x}}", "unknown key; use one of image, command, args, env, model"),
        (f"{GPU}: {{image: 7}}", "write a text"),
        (f"{GPU}: {{args: --fp8}}", "write a list"),
        (f"{GPU}: {{args: [8000]}}", 'write texts: "8000"'),
        (f"{GPU}: {{env: {{A: 1}}}}", 'write a text: "1"'),
        (f"{GPU}: {{env: {{'1A': x}}}}", "write the name of an environment variable"),
        (f"{GPU}: 7", "write an object"),
        ("x" * 70_000, "at most 65536 characters"),
    ],
)
def test_changes_that_cannot_be_read_are_refused_with_the_fix(changes: str, sentence: str) -> None:
    with pytest.raises(WireError) as caught:
        read(GPU, changes)

    assert caught.value.field.startswith("metadata.annotations[kerf.dev/accepts-with]")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("changes", ["", "# none yet", f"{GPU}:", f"{GPU}: {{}}"])
def test_changes_that_say_nothing_change_nothing(changes: str) -> None:
    found = read(GPU, changes)

    assert found is not None
    assert found.changes == (Changes(),)


def test_changes_without_kinds_are_a_mistake() -> None:
    with pytest.raises(WireError, match=r"write kerf\.dev/accepts too"):
        parse_accepts({WITH: "{}"}, NAMES)


@given(
    st.builds(
        Chosen,
        kind=st.text(min_size=1, max_size=50),
        why=st.text(max_size=LONGEST_WHY),
        promise=st.text("abcdef0123456789", max_size=16),
        seal=st.integers(0, 2**32),
        among=st.lists(st.text(min_size=1, max_size=20), max_size=MOST_KINDS).map(tuple),
    )
)
def test_what_a_pod_was_given_is_read_as_it_was_written(chosen: Chosen) -> None:
    assert parse_chosen({CHOSEN: render_chosen(chosen)}) == chosen


@pytest.mark.parametrize("text", [None, 7, "", "{", "[]", '{"kind": 7}', '{"kind": "a"}', '{"kind": "a", "for": true}'])
def test_a_note_that_cannot_be_read_is_none(text: object) -> None:
    assert parse_chosen({CHOSEN: text}) is None


def test_the_policy_has_a_block_of_its_own() -> None:
    block = {"mode": False, "order": "price", "answerSeconds": 1, "explainAfterSeconds": 5, "rememberSeconds": 0}

    assert parse_accepts_settings(block) == AcceptsSettings(AcceptsMode.OFF, AcceptsOrder.PRICE, 1.0, 5.0, 0.0)
    assert parse_accepts_settings({}) == AcceptsSettings()
    with pytest.raises(WireError, match=r"spec\.accepts\.order: 'cheap': use one of throughput, price, listed"):
        parse_accepts_settings({"order": "cheap"})
