"""CDI: the names, the edits and other writers' specs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire.cdi import Edits, Mount, device_id, parse_spec_devices, render_spec
from kerf.wire.errors import WireError

WORDS = st.text("abc-=0", min_size=1, max_size=5)
EDITS = st.builds(
    Edits,
    env=st.lists(st.tuples(WORDS, WORDS), max_size=3).map(tuple),
    mounts=st.lists(st.builds(Mount, WORDS, WORDS, st.booleans()), max_size=3).map(tuple),
)


@given(st.lists(st.sampled_from(["s-1", "s-2", "s-10"]), unique=True, min_size=1).flatmap(st.permutations))
def test_the_kubelets_order_of_slots_does_not_change_the_name(slots: list[str]) -> None:
    assert device_id(tuple(slots)) == device_id(tuple(sorted(slots)))


@given(WORDS, EDITS)
def test_a_spec_is_read_as_it_was_written(name: str, edits: Edits) -> None:
    held = parse_spec_devices(render_spec(((name, edits),), {}), "kerf.dev/grant")

    mounts = [
        {
            "hostPath": m.host,
            "containerPath": m.container,
            "options": ["ro" if m.read_only else "rw", "nosuid", "nodev", "rbind"],
        }
        for m in edits.mounts
    ]
    env = [f"{key}={value}" for key, value in edits.env]
    assert held == {name: {key: value for key, value in (("env", env), ("mounts", mounts)) if value}}


def test_the_cards_own_edits_come_first_and_kerfs_environment_has_the_last_word() -> None:
    card = {"env": ["A=card"], "deviceNodes": [{"path": "/dev/nvidia0"}], "hooks": "not a list"}

    spec = json.loads(render_spec((("s", Edits(env=(("A", "kerf"),), merged=(card, card))),), {}))

    assert spec == {
        "cdiVersion": "0.6.0",
        "kind": "kerf.dev/grant",
        "devices": [
            {"name": "s", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}], "env": ["A=card", "A=kerf"]}}
        ],
    }


def test_spec_wide_edits_reach_every_device() -> None:
    spec = {
        "kind": "nvidia.com/gpu",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [{"name": "GPU-0", "containerEdits": {"env": ["ONE=1"]}}, {"name": "all"}],
    }

    assert parse_spec_devices(json.dumps(spec), "nvidia.com/gpu") == {
        "GPU-0": {"env": ["ALL=1", "ONE=1"]},
        "all": {"env": ["ALL=1"]},
    }
    assert parse_spec_devices(json.dumps(spec), "amd.com/gpu") == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"kind":"k","devices":[5]}',
        '{"kind":"k","devices":[{}]}',
        '{"kind":"k","containerEdits":[1]}',
        '{"kind":"k","devices":[{"name":"a","containerEdits":5}]}',
    ],
)
def test_a_malformed_spec_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        parse_spec_devices(text, "k")
