"""`kerf.dev/grant`, and which annotations only Kerf may write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire.annotations import GRANT, HAMI_STATE, owned_annotation, owned_label, parse_grant, render_grant
from kerf.wire.errors import WireError
from tests.kerf.strategies import GRANTS, JSON, NAMES

SLICE = {"card": "GPU-1", "vendor": "nvidia", "memory_mib": 8000, "cores": 30}


@given(GRANTS)
def test_a_grant_comes_back_as_it_was(grant: Grant) -> None:
    assert parse_grant(render_grant(grant)) == grant


@given(GRANTS, st.dictionaries(NAMES.map(lambda name: f"x-{name}"), JSON, max_size=3))
def test_unknown_keys_of_a_newer_writer_survive_a_rewrite(grant: Grant, more: dict[str, object]) -> None:
    text = json.dumps(json.loads(render_grant(grant)) | more)

    assert json.loads(render_grant(parse_grant(text))) == json.loads(text)


def test_the_text_is_the_documented_one() -> None:
    grant = Grant((ContainerGrant("main", (Slice("GPU-1", "nvidia", 8000, 30),)), ContainerGrant("holds-nothing", ())))

    assert render_grant(grant) == (
        '{"v":1,"containers":[{"name":"main","slices":'
        '[{"card":"GPU-1","vendor":"nvidia","memory_mib":8000,"cores":30}]}]}'
    )


def grant_of(**changes: object) -> str:
    return json.dumps({"v": 1, "containers": [{"name": "main", "slices": [{**SLICE, **changes}]}]})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nonsense", GRANT),
        ('{"v":2,"containers":[]}', f"{GRANT}.v"),
        ('{"v":1}', f"{GRANT}.containers"),
        ('{"v":1,"containers":[{"name":""}]}', f"{GRANT}.containers[0]"),
        ('{"v":1,"containers":[{"name":"a"}]}', f"{GRANT}.containers[0].slices"),
        ('{"v":1,"containers":[{"name":"a","slices":[]},{"name":"a","slices":[]}]}', f"{GRANT}.containers"),
        (
            json.dumps({"v": 1, "containers": [{"name": "a", "slices": [SLICE, SLICE]}]}),
            f"{GRANT}.containers[0].slices",
        ),
        (grant_of(card=""), f"{GRANT}.containers[0].slices[0].card"),
        (grant_of(vendor=5), f"{GRANT}.containers[0].slices[0].vendor"),
        (grant_of(memory_mib=-1), f"{GRANT}.containers[0].slices[0].memory_mib"),
        (grant_of(memory_mib=1.5), f"{GRANT}.containers[0].slices[0].memory_mib"),
        (grant_of(cores=101), f"{GRANT}.containers[0].slices[0].cores"),
    ],
)
def test_a_malformed_grant_names_the_field(text: str, field: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_grant(text)

    assert caught.value.field == field


def test_a_grant_is_bounded() -> None:
    slices = [{**SLICE, "card": str(i)} for i in range(1025)]

    with pytest.raises(WireError, match="hold at most 1024 slices"):
        parse_grant(json.dumps({"v": 1, "containers": [{"name": "a", "slices": slices}]}))


@pytest.mark.parametrize(
    "key", [GRANT, "kerf.dev/inventory", "kerf.dev/plan", *sorted(HAMI_STATE), "hami.io/dcu-devices-allocated"]
)
def test_state_of_kerf_and_hami_is_owned(key: str) -> None:
    assert owned_annotation(key)


@pytest.mark.parametrize(
    "key",
    ["kerf.dev/gang-size", "hami.io/gpu-scheduler-policy", "nvidia.com/use-gpuuuid", "x/kerf.dev/grant", "grant"],
)
def test_what_users_write_is_not(key: str) -> None:
    assert not owned_annotation(key)


def test_one_label_is_owned() -> None:
    assert (owned_label("hami.io/vgpu-node"), owned_label("hami.io/webhook")) == (True, False)
