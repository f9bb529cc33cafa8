"""The two files by which the device plugin and the supervisor of MPS daemons agree, in the node's state directory.

`wanted.json` is the plugin's, `report.json` the supervisor's. Each is versioned JSON.
"""

import json
from typing import Any

from kerf.values.mps import Daemon, DaemonState, MpsReport, Wanted
from kerf.wire.errors import WireError
from kerf.wire.inventory import parse_versioned

WANTED, REPORT = "wanted.json", "report.json"
VERSION = 1
_LONGEST = 253
_MOST = 2**53


def render_wanted(wanted: Wanted) -> str:
    """The plugin's file."""
    daemons = [{"name": each.name, "cards": list(each.cards)} for each in wanted.daemons]
    return json.dumps({"v": VERSION, "daemons": daemons, "shared": dict(wanted.shared)}, sort_keys=True)


def parse_wanted(text: str) -> Wanted:
    """The plugin's file as values. Raises WireError."""
    document = parse_versioned(text, WANTED, VERSION)
    shared = document.get("shared", {})
    if not isinstance(shared, dict):
        raise WireError(f"{WANTED}.shared", shared, "write an object of card ids and daemons")
    pairs = (
        (_word(card, f"{WANTED}.shared"), _word(name, f"{WANTED}.shared[{card}]")) for card, name in shared.items()
    )
    return Wanted(
        tuple(_daemon(each, f"{WANTED}.daemons[{i}]") for i, each in enumerate(_list(document, "daemons", WANTED))),
        tuple(sorted(pairs)),
    )


def render_report(report: MpsReport) -> str:
    """The supervisor's file."""
    daemons = [
        {
            "name": each.name,
            "running": each.running,
            "problem": each.problem[:_LONGEST],
            "restarts": each.restarts,
            "servers": list(each.servers),
            "clients": each.clients,
        }
        for each in report.daemons
    ]
    return json.dumps({"v": VERSION, "at": report.at, "problem": report.problem[:_LONGEST], "daemons": daemons})


def parse_report(text: str) -> MpsReport:
    """The supervisor's file as values. Raises WireError."""
    document = parse_versioned(text, REPORT, VERSION)
    return MpsReport(
        _number(document, "at", REPORT),
        _text(document, "problem", REPORT),
        tuple(_state(each, f"{REPORT}.daemons[{i}]") for i, each in enumerate(_list(document, "daemons", REPORT))),
    )


def _daemon(value: object, where: str) -> Daemon:
    if not isinstance(value, dict):
        raise WireError(where, value, "write an object")
    cards = tuple(_word(card, f"{where}.cards") for card in _list(value, "cards", where))
    return Daemon(_word(value.get("name"), f"{where}.name"), cards)


def _state(value: object, where: str) -> DaemonState:
    if not isinstance(value, dict):
        raise WireError(where, value, "write an object")
    running = value.get("running")
    if not isinstance(running, bool):
        raise WireError(f"{where}.running", running, "write true or false")
    servers = _list(value, "servers", where)
    return DaemonState(
        _word(value.get("name"), f"{where}.name"),
        running,
        _text(value, "problem", where),
        _number(value, "restarts", where),
        tuple(_number({"servers": pid}, "servers", where) for pid in servers),
        _number(value, "clients", where),
    )


def _list(value: dict[str, Any], key: str, where: str) -> list[Any]:
    found = value.get(key, [])
    if not isinstance(found, list):
        raise WireError(f"{where}.{key}", found, "write a list")
    return found


def _word(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or "/" in value or value.startswith("."):
        raise WireError(where, value, f"write a name of 1 to {_LONGEST} characters that can be a file's")
    return value


def _text(value: dict[str, Any], key: str, where: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise WireError(f"{where}.{key}", text, f"write a text of at most {_LONGEST} characters")
    return text


def _number(value: dict[str, Any], key: str, where: str) -> int:
    number = value.get(key, 0)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MOST:
        raise WireError(f"{where}.{key}", number, "write a whole number")
    return number
