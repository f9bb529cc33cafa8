"""The scheduler's state is reached through its doors alone, and quota is narrowed in one module."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.state.allocations import Allocations
from scheduler.state.desk import Desk
from scheduler.state.feed import Feed
from scheduler.state.ledger import Ledger
from scheduler.state.planning import Planning
from scheduler.state.seating import Seating
from scheduler.state.sight import Sight
from scheduler.state.store import Store

ROOT = Path(__file__).parents[2]
STATE = ROOT / "scheduler" / "state"
DOORS = {
    "feed": Feed,
    "ledger": Ledger,
    "desk": Desk,
    "planning": Planning,
    "seating": Seating,
    "allocations": Allocations,
    "sight": Sight,
}
GUARDED = (
    "Live",
    "Fleet",
    "Engine",
    "Lanes",
    "QuotaLedger",
    "Pending",
    "Claimed",
    "HeldPlaces",
    "WithinQuota",
    "RLock",
)
LEDGER_ENTRIES = {"charge", "release", "confirm", "assume", "assume_reserved", "reserve", "begin_bind", "end_bind"}
ENGINE_QUESTIONS = {"query", "room", "scores", "place", "place_on", "explain"}


WITHOUT_QUOTA = {
    "scheduler/clusters/workers.py": "says why cards have no room, beside a plan that has the bounds of quota",
    "scheduler/metering/room.py": "counts by cards and by quota, and takes the least",
    "scheduler/placing/preempt.py": "has a narrowed ask, and reserves within quota",
    "scheduler/state/desk.py": "its victims make room for a narrowed ask",
    "scheduler/state/within_quota.py": "the question itself",
}
"""Who may ask about cards whatever quota says, and why it cannot forget quota."""


def calls(receiver: str, *folders: Path) -> Iterator[tuple[str, str]]:
    """File and method of every call of a method of what has this last name."""
    files = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    for path in files:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if receiver in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = node.func.value
                name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
                if name.lstrip("_") == receiver:
                    yield path.relative_to(ROOT).as_posix(), node.func.attr


def test_a_store_is_its_doors_and_a_door_shows_nothing_but_methods() -> None:
    store = Store(SchedulingPolicy(), VENDORS)

    assert {name: type(door) for name, door in vars(store).items()} == DOORS
    assert [name for door in vars(store).values() for name in vars(door) if not name.startswith("_")] == []


@pytest.mark.parametrize("door", DOORS.values())
def test_a_door_hands_out_values_and_never_what_it_guards(door: type) -> None:
    public = {name: member for name, member in vars(door).items() if not name.startswith("_")}
    functions = {name: member.fget if isinstance(member, property) else member for name, member in public.items()}
    returned = {name: str(get_type_hints(function)["return"]) for name, function in functions.items()}

    assert {name: text for name, text in returned.items() if any(f".{guarded}" in text for guarded in GUARDED)} == {}


def test_only_the_state_writes_into_the_ledger() -> None:
    writes = {
        (file, method)
        for file, method in calls("ledger", ROOT / "scheduler", ROOT / "kerfctl")
        if method in LEDGER_ENTRIES and not file.startswith("scheduler/state/")
    }

    assert writes == set()


def test_quota_is_narrowed_and_the_engine_asked_in_one_module() -> None:
    asked = {file for file, method in calls("engine", STATE) if method in ENGINE_QUESTIONS}
    narrowed = {file for file, method in calls("quotas", STATE) if method == "narrow"}

    everywhere = {
        file for file, method in calls("engine", ROOT / "scheduler", ROOT / "kerfctl") if method == "place_on"
    }

    assert everywhere == {"scheduler/state/within_quota.py"}
    assert asked == narrowed == {"scheduler/state/within_quota.py"}


def test_who_asks_whatever_quota_says_has_a_reason() -> None:
    names = {
        path.relative_to(ROOT).as_posix()
        for folder in ("scheduler", "kerfctl")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "by_cards_alone" in path.read_text()
    }

    assert names == set(WITHOUT_QUOTA)


def test_cards_are_placed_by_the_engine_and_the_solver_alone() -> None:
    placed = {
        path.relative_to(ROOT).as_posix()
        for folder in ("scheduler", "kerfctl")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "scheduler.core.place"
        if any(name.name == "place" for name in node.names)
    }

    assert placed == {"scheduler/solver/greedy.py", "scheduler/state/engine.py", "scheduler/state/lanes.py"}
