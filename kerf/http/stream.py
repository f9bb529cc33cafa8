"""An answer without an end: its parts are sent as they come, at the pace at which the client takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Sink(Protocol):
    """Where the parts of a stream go."""

    @property
    def blocked(self) -> bool:
        """Whether the client does not take what was sent; after `Limits.silent_s` of that it is closed."""

    def write(self, data: bytes) -> None:
        """Send a part. No-op once the client is gone."""

    def leave(self) -> None:
        """End the stream once all of it is sent."""


class Source(Protocol):
    """What writes a stream."""

    def drained(self) -> None:
        """The client takes parts again."""

    def closed(self) -> None:
        """The client is gone."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on until one side ends it. `opened` is called with the client, after the head was sent.

    Without a `kind` no head is sent: the source writes it.
    """

    opened: Callable[[Sink], Source]
    kind: str = ""
    headers: tuple[tuple[str, str], ...] = ()
