"""How hard the property tests try."""

from hypothesis import settings

USUAL = 100


def examples(count: int) -> int:
    """So many in `make test`, in proportion fewer in `make check`."""
    return max(1, count * settings.default.max_examples // USUAL)
