"""What a container gets."""

import json

from deviceplugin.core.edits import edits_of, limits_of, opts_out, render_specs, spec_uid
from kerf.values.grant import Slice
from kerf.values.injection import Mount, NodeFiles, Terms
from kerf.values.units import MIB
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.cdi import Edits
from kerf.wire.limiter import CardLimit, LedgerSpec

SLICES = (Slice("GPU-b", "nvidia", 8000, 30), Slice("GPU-a", "nvidia", 8000, 30))


def test_the_vendor_runtime_brings_the_cards_in_the_grants_order_and_the_ledger_limits_them():
    files = NodeFiles("/opt/kerf/libkerf.so", "/run/kerf/preload", (("GPU-a", "/run/kerf/arb/a"),))

    expected = Edits(
        env=(
            ("NVIDIA_VISIBLE_DEVICES", "GPU-b,GPU-a"),
            ("CUDA_DEVICE_MEMORY_LIMIT_0", "8000m"),
            ("CUDA_DEVICE_MEMORY_LIMIT_1", "8000m"),
            ("CUDA_DEVICE_SM_LIMIT", "30"),
            ("KERF_LEDGER", "/usr/local/kerf/ledger"),
        ),
        mounts=(
            Mount("/run/kerf/ledgers/u/main", "/usr/local/kerf/ledger", read_only=False),
            Mount("/run/kerf/arb/a", "/usr/local/kerf/arbiter-1", read_only=False),
            Mount("/opt/kerf/libkerf.so", "/usr/local/kerf/libkerf.so"),
            Mount("/run/kerf/preload", "/etc/ld.so.preload"),
        ),
    )
    assert expected == edits_of(SLICES, "/run/kerf/ledgers/u/main", files, Terms(), VENDORS)
    assert LedgerSpec(
        (CardLimit("GPU-b", 8000 * MIB, 30), CardLimit("GPU-a", 8000 * MIB, 30, "/usr/local/kerf/arbiter-1")),
        "weight",
        0,
    ) == limits_of(SLICES, files, Terms("weight", 0))


def test_a_privileged_container_has_its_cards_named_to_cuda_in_the_grants_order():
    plain = edits_of(SLICES, "/l", NodeFiles(), Terms(), VENDORS)
    named = edits_of(SLICES, "/l", NodeFiles(), Terms(privileged=True), VENDORS)

    assert set(named.env) - set(plain.env) == {("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")}
    assert named.mounts == plain.mounts


def test_the_nodes_own_specs_replace_the_runtimes_variable_where_they_bring_every_card():
    own = {"deviceNodes": [{"path": "/dev/nvidia0"}], "env": ["NVIDIA_VISIBLE_DEVICES=void"], "additionalGids": [44]}
    files = NodeFiles(specs=(("GPU-a", own), ("GPU-b", own)))

    spec = json.loads(render_specs("team/pod", "u1", (("kerf-1.0", edits_of(SLICES, "/l", files, Terms(), VENDORS)),)))

    edits = spec["devices"][0]["containerEdits"]
    assert [e for e in edits["env"] if e.startswith("NVIDIA")] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert edits["deviceNodes"] == [{"path": "/dev/nvidia0"}]
    assert spec["cdiVersion"] == "0.7.0"


def test_a_spec_has_a_device_per_name_and_says_whose_it_is():
    edits = Edits(env=(("A", "1"),))

    text = render_specs("team/pod", "u1", (("kerf-1.0", edits), ("kerf-1.1", edits)))

    assert json.loads(text) == {
        "cdiVersion": "0.6.0",
        "kind": "kerf.dev/grant",
        "annotations": {"kerf.dev/pod": "team/pod", "kerf.dev/uid": "u1"},
        "devices": [
            {"name": "kerf-1.0", "containerEdits": {"env": ["A=1"]}},
            {"name": "kerf-1.1", "containerEdits": {"env": ["A=1"]}},
        ],
    }
    assert spec_uid(text) == "u1"
    assert [spec_uid(other) for other in ("{", "[]", '{"annotations": 3}')] == ["", "", ""]


def test_a_container_opts_out_with_hamis_variable():
    assert opts_out({"env": [{"name": "CUDA_DISABLE_CONTROL", "value": "true"}]}, NAMES)
    assert not opts_out({"env": [{"name": "CUDA_DISABLE_CONTROL", "value": "false"}]}, NAMES)
    assert not opts_out({}, NAMES)
