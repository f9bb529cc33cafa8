"""One line of an estimate's sum."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the sum, in bytes. `low` and `high` are equal where the number is exact."""

    name: str
    low: int
    high: int
    formula: str
    source: str


def exact(name: str, size: int, formula: str, source: str) -> Term:
    """A term that is known to the byte."""
    return Term(name, size, size, formula, source)
