"""What an inference engine says of itself: tokens since it started, and how busy it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts of prompt tokens that were computed, that came from the prefix cache, and of generated tokens."""

    input: int = 0
    cached: int = 0
    output: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.input + other.input, self.cached + other.cached, self.output + other.output)

    def __bool__(self) -> bool:
        return bool(self.input or self.cached or self.output)


@dataclass(frozen=True, slots=True)
class ModelReading:
    """One served model of an engine. `kv_use` is the fullest rank's, from 0 to 1."""

    model: str
    tokens: Tokens = Tokens()
    waiting: int = 0
    running: int = 0
    kv_use: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineReading:
    """A page of an engine. A sleeping engine is no idle capacity."""

    models: tuple[ModelReading, ...] = ()
    asleep: bool = False
