"""What the version before wrote is read by this one, and the reverse: both ways of an upgrade."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import a_card
from kerf.values.device import Mode
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.health import Health, State
from kerf.wire import limiter as wire
from kerf.wire.annotations import parse_grant, render_grant
from kerf.wire.inventory import parse_inventory, render_inventory
from kerf.wire.limiter import CardLimit, LedgerSpec, parse_ledger, render_ledger
from kerf.wire.quota import parse_tenant
from tests.upgrade.released import COMMIT, ask, tree

ROOT = Path(__file__).parents[2]
CARDS = (
    a_card(0, links=("GPU-1",)),
    a_card(1, health=Health(State.SUSPECT, "it fell off the bus", 1_700_000_000)),
    a_card(2, mode=Mode.MIG),
    a_card(3, numa=1, slots=4),
)
GRANT = Grant((ContainerGrant("main", (Slice("GPU-0", "nvidia", 8000, 30), Slice("GPU-1", "nvidia", 8000, 30))),))
LEDGER = LedgerSpec((CardLimit("GPU-0", 8000 << 20, 30, "/usr/local/kerf/arbiter-0"),), "weight", 1)
FIELDS = ("id", "index", "vendor", "model", "memory_mib", "cores", "slots", "numa")


def described(card: Any) -> dict[str, Any]:
    return {**{name: getattr(card, name) for name in FIELDS}, "mode": card.mode.value, "healthy": card.healthy}


OLD_CARDS = f"""
from kerf.wire.inventory import parse_inventory
answer = [dict([(name, getattr(card, name)) for name in {FIELDS}], mode=card.mode.value, healthy=card.healthy)
          for card in parse_inventory(given)]
"""


def test_the_version_before_reads_this_versions_inventory() -> None:
    assert ask(OLD_CARDS, render_inventory(CARDS)) == [described(card) for card in CARDS]


def test_this_version_reads_the_version_befores_inventory() -> None:
    code = """
from kerf.model.device import Card, Mode
from kerf.wire.inventory import render_inventory
card = Card("GPU-0", 0, "nvidia", "H100", memory_mib=81559, healthy=False, links=("GPU-1",))
answer = render_inventory((card, Card("GPU-1", 1, "nvidia", "H100", memory_mib=81559, mode=Mode.MIG)))
"""
    found = parse_inventory(ask(code, None))

    assert [(c.id, c.memory_mib, c.mode, c.healthy) for c in found] == [
        ("GPU-0", 81_559, Mode.SHARED, False), ("GPU-1", 81_559, Mode.MIG, True),
    ]  # fmt: skip


def test_a_grant_is_read_both_ways() -> None:
    old = "from kerf.wire.annotations import parse_grant, render_grant\nanswer = render_grant(parse_grant(given))"

    assert parse_grant(ask(old, render_grant(GRANT))) == GRANT


def test_a_ledger_is_read_both_ways_with_events_that_only_one_knows() -> None:
    data = bytearray(render_ledger(LEDGER))
    header = wire.RECORDS["header"]
    header._structs["events"].pack_into(data, header.offsets["events"], *[1] * len(header.numbers(data, 0, "events")))
    old = """
import base64
from kerf.wire.limiter import parse_ledger, render_ledger
view = parse_ledger(base64.b64decode(given))
answer = [view.spec.policy, view.cards[0].limit.uuid, view.cards[0].limit.memory_bytes,
          base64.b64encode(render_ledger(view.spec)).decode()]
"""
    policy, uuid, memory, rendered = ask(old, base64.b64encode(bytes(data)).decode())

    assert (policy, uuid, memory) == ("weight", "GPU-0", 8000 << 20)
    assert parse_ledger(base64.b64decode(rendered)).spec.cards == LEDGER.cards


@pytest.mark.parametrize("file", sorted((ROOT / "examples" / "tenants").glob("*.yaml")), ids=lambda path: path.name)
def test_a_tenants_file_means_the_same_to_both(file: Path) -> None:
    for item in yaml.safe_load_all(file.read_text()):
        tenant = parse_tenant(item)
        old = """
from kerf.wire.quota import parse_tenant
tenant = parse_tenant(given)
answer = [tenant.name, list(tenant.namespaces), len(tenant.classes)]
"""
        assert ask(old, item) == [tenant.name, list(tenant.namespaces), len(tenant.classes)]


def test_the_archive_is_of_the_commit_that_it_names() -> None:
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"this checkout has no history back to {COMMIT}; the archive's checksum is checked instead")
    for name in ("kerf/wire/limiter.py", "scheduler/main.py", "limiter/include/kerf/ledger.h"):
        there = subprocess.run(["git", "show", f"{COMMIT}:{name}"], cwd=ROOT, capture_output=True, check=True).stdout
        assert (tree() / name).read_bytes() == there
