"""A picture: rows by section and key, and what changed between two of them."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A row as JSON."""
Section = Mapping[str, Row]
Picture = Mapping[str, Section]
Change = Mapping[str, Mapping[str, Row | None]]
"""Rows that are new or differ, by section and key; None for one that is gone."""
SECTIONS = ("nodes", "waiting", "tenants", "gangs", "costs", "clusters", "about")


def changes(old: Picture, new: Picture) -> dict[str, dict[str, Row | None]]:
    """What turns one picture into another."""
    found: dict[str, dict[str, Row | None]] = {}
    for name in old.keys() | new.keys():
        before, after = old.get(name, {}), new.get(name, {})
        rows: dict[str, Row | None] = {key: row for key, row in after.items() if before.get(key) != row}
        rows.update(dict.fromkeys(before.keys() - after.keys()))
        if rows:
            found[name] = rows
    return found


def applied(picture: Picture, change: Change) -> dict[str, dict[str, Row]]:
    """The picture after a change: what a browser does with it."""
    found = {name: dict(section) for name, section in picture.items()}
    for name, rows in change.items():
        section = found.setdefault(name, {})
        for key, row in rows.items():
            if row is None:
                section.pop(key, None)
            else:
                section[key] = row
    return {name: section for name, section in found.items() if section}
