"""How cards were come by."""

from enum import StrEnum


class Supply(StrEnum):
    """How a card or a cluster of cards was come by, which decides what an hour of it costs."""

    OWNED = "owned"
    RENTED = "rented"
