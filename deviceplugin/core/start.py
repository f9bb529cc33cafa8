"""A container that is about to start, whichever way it was identified."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """A container of an identified pod. Its CDI spec must exist under these device names before it is created."""

    container: str
    names: tuple[str, ...]
