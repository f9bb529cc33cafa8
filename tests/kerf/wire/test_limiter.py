"""The ledger's Python mirror: same offsets as the C header, and what is rendered is what is parsed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.wire import limiter as wire
from kerf.wire.errors import WireError
from kerf.wire.limiter import (
    CardLimit,
    CardReading,
    LedgerSpec,
    LedgerView,
    parse_ledger,
    render_arbiter,
    render_ledger,
)

HEADERS = Path(__file__).resolve().parents[3] / "limiter" / "include"
MIB = 2**20

cards = st.builds(
    CardLimit,
    uuid=st.uuids().map(lambda uuid: f"GPU-{uuid}"),
    memory_bytes=st.none() | st.integers(0, 2**63 - 1),
    cores=st.none() | st.integers(1, 100),
    arbiter=st.sampled_from(["", "/etc/kerf/card-0"]),
)
specs = st.builds(
    LedgerSpec,
    cards=st.lists(cards, min_size=1, max_size=16, unique_by=lambda card: card.uuid).map(tuple),
    policy=st.sampled_from(wire.POLICIES),
    priority=st.integers(0, 1),
    generation=st.integers(0, 2**64 - 1),
)


def c_offsets(folder: Path) -> dict[str, int]:
    """Every offset and size the C header compiles to, and its constants."""
    lines = ["#include <stdio.h>", '#include "kerf/ledger.h"', "int main(void) {"]
    for name, record in wire.RECORDS.items():
        lines.append(f'  printf("{name} %zu\\n", sizeof(struct kerf_{name}));')
        lines += [
            f'  printf("{name}.{field} %zu\\n", offsetof(struct kerf_{name}, {field}));' for field in record.offsets
        ]
    for section in ("cards", "arbiters", "slots"):
        lines.append(f'  printf("ledger.{section} %zu\\n", offsetof(struct kerf_ledger, {section}));')
    for constant in ("LEDGER_BYTES", "NODE_ARBITER_BYTES", "CARDS_MAX", "SLOTS", "NODE_TENANTS", "NODE_MEMBERS"):
        lines.append(f'  printf("{constant} %llu\\n", (unsigned long long)KERF_{constant});')
    lines.append('  printf("LEDGER_MAGIC %llu\\n", (unsigned long long)KERF_LEDGER_MAGIC);')
    lines.append('  printf("ARBITER_MAGIC %llu\\n", (unsigned long long)KERF_ARBITER_MAGIC);')
    lines += [f'  printf("event.{name} %d\\n", KERF_EVENT_{name.upper()});' for name in wire.EVENTS]
    lines += [f'  printf("kind.{name} %d\\n", KERF_KIND_{name.upper()});' for name in wire.KINDS]
    lines += [f'  printf("policy.{name} %d\\n", KERF_POLICY_{name.upper()});' for name in wire.POLICIES]
    source, program = folder / "offsets.c", folder / "offsets"
    source.write_text("\n".join([*lines, "  return 0;", "}"]))
    subprocess.run(["gcc", "-std=gnu11", f"-I{HEADERS}", source, "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in (line.split() for line in printed.splitlines())}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed to compile the C header")
def test_every_offset_is_what_the_c_header_compiles_to(tmp_path: Path) -> None:
    mirror = {name: record.size for name, record in wire.RECORDS.items()}
    mirror |= {f"{name}.{field}": at for name, record in wire.RECORDS.items() for field, at in record.offsets.items()}
    mirror |= {"ledger.cards": wire.CARDS_AT, "ledger.arbiters": wire.ARBITERS_AT, "ledger.slots": wire.SLOTS_AT}
    mirror |= {"LEDGER_BYTES": 65536, "NODE_ARBITER_BYTES": wire.NODE_ARBITER_BYTES, "CARDS_MAX": wire.CARDS_MAX}
    mirror |= {"SLOTS": wire.SLOTS, "NODE_TENANTS": wire.NODE_TENANTS, "NODE_MEMBERS": wire.NODE_MEMBERS}
    mirror |= {"LEDGER_MAGIC": wire.LEDGER_MAGIC, "ARBITER_MAGIC": wire.ARBITER_MAGIC}
    mirror |= {f"event.{name}": i for i, name in enumerate(wire.EVENTS)}
    mirror |= {f"kind.{name}": i for i, name in enumerate(wire.KINDS)}
    mirror |= {f"policy.{name}": i for i, name in enumerate(wire.POLICIES)}

    assert mirror == c_offsets(tmp_path)


@given(specs)
def test_a_rendered_ledger_is_parsed_to_the_same_spec_and_no_use(spec: LedgerSpec) -> None:
    unused = tuple(CardReading(card, 0, 0, 0, 0, 0, 0, 0) for card in spec.cards)

    assert parse_ledger(render_ledger(spec)) == LedgerView(spec, cards=unused, processes=(), events={})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (LedgerSpec(cards=()), "cards"),
        (LedgerSpec(cards=(CardLimit("", 1, 1),)), "cards[0].uuid"),
        (LedgerSpec(cards=(CardLimit("GPU-a", -1, 1),)), "cards[0].memory_bytes"),
        (LedgerSpec(cards=(CardLimit("GPU-a", 1, 101),)), "cards[0].cores"),
        (LedgerSpec(cards=(CardLimit("GPU-a", 1, 1, "/" + "x" * 191),)), "cards[0].arbiter"),
        (LedgerSpec(cards=(CardLimit("GPU-a", 1, 1), CardLimit("GPU-a", 2, 2))), "cards"),
        (LedgerSpec(cards=(CardLimit("GPU-a", 1, 1),), priority=2), "priority"),
    ],
)
def test_a_spec_that_cannot_be_kept_is_refused_by_field(spec: LedgerSpec, field: str) -> None:
    with pytest.raises(WireError) as refused:
        render_ledger(spec)

    assert refused.value.field == field


@pytest.mark.parametrize("damage", [b"", b"\0" * 65536, b"x" * 65536])
def test_other_files_are_refused(damage: bytes) -> None:
    with pytest.raises(WireError):
        parse_ledger(damage)


def test_a_newer_layout_is_refused() -> None:
    data = bytearray(render_ledger(LedgerSpec(cards=(CardLimit("GPU-a", MIB, 10),))))
    wire.RECORDS["header"].write(data, 0, abi=wire.LEDGER_ABI + 1)

    with pytest.raises(WireError, match="abi"):
        parse_ledger(bytes(data))


def test_an_arbiter_has_its_size_and_magic() -> None:
    data = render_arbiter()

    assert (len(data), data[:8]) == (12288, b"KERFTURN")


def test_the_agent_gives_a_container_its_measured_share() -> None:
    data = bytearray(render_ledger(LedgerSpec(cards=(CardLimit("GPU-a", MIB, 10), CardLimit("GPU-b", MIB, 10)))))
    for offset, patch in wire.measured_patch(card=1, permille=312, at_ns=5):
        data[offset : offset + len(patch)] = patch

    assert [card.measured_permille for card in parse_ledger(bytes(data)).cards] == [0, 312]
