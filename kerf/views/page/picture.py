"""A picture: rows by section and key."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A row as JSON."""
SECTIONS = ("nodes", "waiting", "tenants", "gangs", "costs", "clusters", "about")
