"""Dockerfiles, with the instructions that Kerf's own use. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Copy:
    """``COPY [--from=STAGE] SOURCE… TARGET``; an empty stage is the checkout."""

    stage: str
    sources: tuple[str, ...]
    target: str


@dataclass
class Stage:
    """One ``FROM`` and what follows it, in order of appearance by kind."""

    base: str
    name: str
    copies: list[Copy] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: tuple[str, ...] = ()


def parse_dockerfile(text: str) -> list[Stage]:
    """The stages. Raises SandboxError for an unsupported instruction."""
    stages: list[Stage] = []
    for word, rest in _instructions(text):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            _add(stages[-1], word, rest)
    return stages


def _add(stage: Stage, word: str, rest: str) -> None:
    match word:
        case "COPY":
            stage.copies.append(_copy(rest))
        case "RUN":
            stage.runs.append(rest)
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
        case "ARG":
            stage.arguments |= dict([rest.split("=", 1)])
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entrypoint = tuple(json.loads(rest))
        case "WORKDIR":
            pass  # always the checkout
        case _:
            raise SandboxError(f"{word} {rest}: not supported: build this image with an engine")


def _copy(rest: str) -> Copy:
    words = rest.split()
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
    return Copy(stage, tuple(words[:-1]), words[-1])


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", plain).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()
