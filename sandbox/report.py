"""What a container prints about itself (images/sleeper), and the kubelet's log of it. Pure."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """A container's environment, the files and directories that it read, and why it could not read others."""

    environment: Mapping[str, str]
    files: Mapping[str, bytes]
    listings: Mapping[str, tuple[str, ...]]
    errors: Mapping[str, str]
    complete: bool
    """False while the container has not finished printing."""


def parse_report(text: str) -> Report:
    """The report in a container's output. Other lines count as environment."""
    environment: dict[str, str] = {}
    files: dict[str, bytes] = {}
    listings: dict[str, tuple[str, ...]] = {}
    errors: dict[str, str] = {}
    lines = text.splitlines()
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            continue
        kind, colon, path = key.partition(":")
        match (kind, colon):
            case ("file", ":"):
                files[path] = base64.b64decode(value)
            case ("list", ":"):
                listings[path] = tuple(value.split(",")) if value else ()
            case ("error", ":"):
                errors[path] = value
            case _:
                environment[key] = value
    return Report(environment, files, listings, errors, complete="ready" in lines)


def parse_cri_log(text: str) -> str:
    """The output in a container's log file, without the time, stream and tag before each piece (P: line goes on)."""
    pieces = (line.split(" ", 3) for line in text.splitlines() if line.count(" ") >= 3)
    return "".join(content + ("\n" if tag == "F" else "") for _, _, tag, content in pieces)
