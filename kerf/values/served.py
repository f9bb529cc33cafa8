"""Names of extended resources that nobody serves: misspelt, or renamed when a plugin was installed."""

from collections.abc import Iterable
from difflib import get_close_matches

from kerf.values.vendor import ResourceNames

CLOSE = 0.75
"""How alike two names must be for one to be suggested for the other, from 0 to 1."""


def unserved(name: str, vendors: Iterable[ResourceNames], others: Iterable[str] = ()) -> bool:
    """Whether a name is of a vendor's domain and neither Kerf nor another plugin serves it.

    `others` are resources of further plugins; one that ends in "*" stands for all that begin so. A vendor's own device
    plugin may serve names that Kerf does not know, so those domains are not judged.
    """
    ours = [words for words in vendors if name.partition("/")[0] == words.domain]
    if not ours or any(name in words.all or not words.scheduled for words in ours):
        return False
    patterns = (*(pattern for words in ours for pattern in words.others), *others)
    return not any(_matches(name, pattern) for pattern in patterns)


def similar(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one; empty where none is."""
    found = get_close_matches(name, [each for each in known if each != name], n=1, cutoff=CLOSE)
    return found[0] if found else ""


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
