"""Settings from flags over environment over defaults, and policy files that reload when they change."""

import argparse
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from kerf.obs.loop import Loop, run_every
from kerf.values.policy import SchedulingPolicy
from kerf.wire.errors import WireError
from kerf.wire.policy import parse_policy

T = TypeVar("T")
LARGEST_FILE = 1 << 20
"""Bytes; a policy is a few kilobytes."""


def load_settings(kind: type[T], argv: Sequence[str] | None, *, program: str, about: str) -> T:
    """Fill a frozen settings dataclass: `--field-name` over `KERF_FIELD_NAME` over the field's default.

    A field's `metadata["help"]` is its help text; a tuple field repeats. An unknown flag or a value of the wrong
    type ends the program with one line (exit status 2), as argparse does.
    """
    parser = argparse.ArgumentParser(prog=program, description=about)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        _add_flag(parser, field, hints[field.name])
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = tuple(value)
    return kind(**given)


def _add_flag(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: object) -> None:
    flag = "--" + field.name.replace("_", "-")
    variable = "KERF_" + field.name.upper()
    text = os.environ.get(variable)
    words = f"{field.metadata.get('help', '')} (environment {variable})"
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if hint is bool:
        default = None if text is None else text.lower() in {"1", "true", "yes"}
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=words)
        return
    if str(hint).startswith("tuple"):
        parser.add_argument(flag, action="append", default=text.split(",") if text else None, help=words)
        return
    convert: Callable[[str], Any] = next((kind for kind in (int, float) if str(kind.__name__) in str(hint)), str)
    try:
        default = None if text is None else convert(text)
    except ValueError:
        parser.error(f"environment {variable}: {text!r} is not a number")
    parser.add_argument(flag, type=convert, default=default, required=required and default is None, help=words)


def setting(default: Any, words: str) -> Any:  # noqa: ANN401 (in the place of a dataclass field's default)
    """A settings field with its help text."""
    return dataclasses.field(default=default, metadata={"help": words})


def required_setting(words: str) -> Any:  # noqa: ANN401
    """A settings field that must be given."""
    return dataclasses.field(metadata={"help": words})


def read_policy(path: str | None) -> SchedulingPolicy:
    """The policy in a YAML file, the shipped default when None. Raises WireError with the file's name."""
    if path is None:
        return SchedulingPolicy()
    try:
        text = Path(path).read_text(encoding="utf-8")
        if len(text) > LARGEST_FILE:
            raise WireError(path, f"{len(text)} characters", f"write at most {LARGEST_FILE}")
        return parse_policy(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise WireError(path, str(error), "name a readable file") from error
    except yaml.YAMLError as error:
        raise WireError(path, str(error).replace("\n", " "), "write YAML") from error


class PolicyFile:
    """A policy file that is read again when it changes; a broken version is reported once, and the old one stays."""

    def __init__(self, path: str | None) -> None:
        self.policy = read_policy(path)
        self._path = path
        self._stop = threading.Event()
        self._stamp = self._state()

    def start(
        self, changed: Callable[[SchedulingPolicy], None], broken: Callable[[str], None], every_s: float = 2.0
    ) -> None:
        """Check for changes from a thread of its own."""
        if self._path:
            once = partial(self.reload, changed, broken)
            args = (Loop("policy", every_s), once, self._stop)
            threading.Thread(target=run_every, args=args, name="policy", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def reload(self, changed: Callable[[SchedulingPolicy], None], broken: Callable[[str], None]) -> None:
        """Read the file again if it has changed."""
        stamp = self._state()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.policy = read_policy(self._path)
        except WireError as error:
            broken(str(error))
            return
        changed(self.policy)

    def _state(self) -> tuple[int, int, int]:
        try:
            # A mounted ConfigMap is a link that is swapped: stat follows it.
            found = Path(self._path or "").stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)
