"""Find the parts, or build them from source with Go and keep them in a cache."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.parts import GROUPS, PARTS, Group, Installed, Part, Patch
from sandbox.processes import spawn, tail

PACKAGE = Path(__file__).parent
WARM = 0.5
"""A build that takes less than this share of its estimate came from Go's own cache and is not measured."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a build: the parts being built, seconds so far, estimated seconds left for these and for all."""

    parts: tuple[str, ...]
    elapsed: float
    left: float
    left_in_all: float


def cache_dir() -> Path:
    """The directory of built parts: ``$KERF_CACHE``, or ``kerf`` in the user's cache directory."""
    if chosen := os.environ.get("KERF_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kerf"


def locate(name: str) -> Path | None:
    """A program that needs no building: from its own variable, ``$KUBEBUILDER_ASSETS``, PATH or the cache."""
    part = _part(name)
    if part.variable and (chosen := os.environ.get(part.variable)):
        return Path(chosen)
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        asset = Path(assets) / name
        if os.access(asset, os.X_OK):
            return asset
    if part.installed and (found := shutil.which(name)) and _will_do(found, part.installed):
        return Path(found)
    built = _home(GROUPS[part.group]) / name
    return built if built.exists() else None


def estimate(names: Iterable[str]) -> float:
    """Estimated seconds that `ensure` needs for these parts; 0 if all of them exist."""
    missing = [name for name in names if locate(name) is None]
    return sum(_seconds(group, parts) for group, parts in _by_group(missing).items())


def ensure(names: Iterable[str], progress: Callable[[Progress], None] = lambda _: None) -> Mapping[str, Path]:
    """The programs of these parts. Builds missing parts first, one group after another.

    Calls `progress` about once a second during a build. Raises SandboxError if a build fails.
    """
    wanted = tuple(dict.fromkeys(names))
    missing = [name for name in wanted if locate(name) is None]
    groups = _by_group(missing)
    left_in_all = estimate(missing)
    for group, parts in groups.items():
        expected = _seconds(group, parts)
        left_in_all -= expected
        _build(GROUPS[group], parts, _Clock(parts, expected, left_in_all, progress))
    return {name: _found(name) for name in wanted}


def module_dir(group: str, module: str) -> Path:
    """The directory with the source of a module that a group of parts requires. Downloads it if necessary."""
    _go(GROUPS[group], "mod", "download", module)
    return Path(_go(GROUPS[group], "list", "-m", "-f", "{{.Dir}}", module))


@dataclass(frozen=True, slots=True)
class _Clock:
    parts: tuple[str, ...]
    expected: float
    left_after: float
    progress: Callable[[Progress], None]

    def tick(self, elapsed: float) -> None:
        left = max(self.expected - elapsed, elapsed / 10)  # late, but never "0 s left"
        self.progress(Progress(self.parts, elapsed, left, left + self.left_after))


def _build(group: Group, parts: tuple[str, ...], clock: _Clock) -> None:
    home = _home(group)
    home.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _locked(home / "lock", lambda: clock.tick(time.monotonic() - started)):
        todo = tuple(part for part in parts if not (home / part).exists())  # another process may have built it first
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            if todo:
                _run(group, todo, Path(scratch), lambda: clock.tick(time.monotonic() - started))
            for part in todo:
                _built(group, part, Path(scratch)).replace(home / part)
    _learn(group.name, todo, time.monotonic() - started)


def _vendored(group: Group, patch: Patch, scratch: Path) -> Path:
    """A copy of the group's module with all it requires beside it, one file of that replaced.

    Go's own ``-overlay`` may not touch the module cache.
    """
    copy = scratch / "source"
    shutil.copytree(PACKAGE / group.directory, copy)
    _go(group, "mod", "vendor", directory=copy)
    shutil.copyfile(copy / patch.ours, copy / "vendor" / patch.theirs)
    return copy


def _built(group: Group, part: str, scratch: Path) -> Path:
    """Go's name for the program: the last element of its package's path that is not a version."""
    elements = [element for element in PARTS[part].package.split("/") if not re.fullmatch(r"v\d+", element)]
    built = scratch / elements[-1]
    if not built.exists():
        made = sorted(entry.name for entry in scratch.iterdir())
        raise SandboxError(f"go build of {group.name} did not produce {built.name}; it produced {made}")
    return built


def _run(group: Group, parts: tuple[str, ...], scratch: Path, tick: Callable[[], None]) -> None:
    """One ``go build`` for all parts of a group: they share most packages, and Go links them in parallel."""
    tick()
    log = _home(group) / "build.log"
    source = _vendored(group, group.patch, scratch) if group.patch else PACKAGE / group.directory
    argv = ("go", "build", *_flags(group), "-o", f"{scratch}{os.sep}", *(PARTS[part].package for part in parts))
    log.unlink(missing_ok=True)
    process = spawn(argv, log, _env(group), cwd=source)
    try:
        while True:
            tick()
            with suppress(subprocess.TimeoutExpired):
                if process.wait(timeout=1):
                    raise SandboxError(f"building {group.name} failed:\n{tail(log)}")
                return
    finally:
        process.kill()
        process.wait()


def _flags(group: Group) -> tuple[str, ...]:
    linker = f"-s -w {group.ldflags}".strip()
    modules = "-mod=vendor" if group.patch else "-mod=readonly"
    return ("-buildvcs=false", modules, "-trimpath", "-tags", group.tags, "-ldflags", linker)


def _env(group: Group) -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "01"[group.cgo], "GOFLAGS": "", "GOWORK": "off"}


def _go(group: Group, *arguments: str, directory: Path | None = None) -> str:
    try:
        return subprocess.run(
            ("go", *arguments),
            cwd=directory or PACKAGE / group.directory,
            env=_env(group),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except FileNotFoundError:
        raise SandboxError("Go is not installed: https://go.dev/doc/install (the sandbox builds Kubernetes)") from None
    except subprocess.CalledProcessError as error:
        raise SandboxError(f"go {' '.join(arguments)} failed: {error.stderr.strip()}") from None


def _home(group: Group) -> Path:
    """The group's directory in the cache. Its key covers the sources, the flags and the compiler."""
    digest = hashlib.sha256(repr((_flags(group), group.cgo, _go(group, "env", "GOVERSION", "GOARCH"))).encode())
    for source in sorted(path for path in (PACKAGE / group.directory).rglob("*") if path.is_file()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return cache_dir() / "parts" / f"{group.name}-{digest.hexdigest()[:16]}"


def _part(name: str) -> Part:
    try:
        return PARTS[name]
    except KeyError:
        raise SandboxError(f"no part is called {name!r}; parts: {', '.join(PARTS)}") from None


def _found(name: str) -> Path:
    path = locate(name)
    if path is None or not path.exists():
        raise SandboxError(f"{name} is not at {path}")
    return path


def _will_do(program: str, installed: Installed) -> bool:
    try:
        told = subprocess.run((program, *installed.arguments), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return _version_fits(told.stdout + told.stderr, installed)


def _version_fits(text: str, installed: Installed) -> bool:
    version = re.search(r"\bv?(\d+)\.(\d+)\.\d+", text)
    return version is not None and installed.at_least <= (int(version[1]), int(version[2])) < installed.below


def _by_group(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = _part(name).group
        groups[group] = (*groups.get(group, ()), name)
    return groups


def _seconds(group: str, parts: Iterable[str]) -> float:
    return sum(PARTS[part].seconds for part in parts) * _paces().get(group, 1.0)


def _paces() -> dict[str, float]:
    """By group: how much slower than the table this machine was last time."""
    try:
        paces = json.loads((cache_dir() / "paces.json").read_text())
    except (OSError, ValueError):
        return {}
    return {str(group): float(pace) for group, pace in paces.items()}


def _learn(group: str, parts: tuple[str, ...], seconds: float) -> None:
    table = sum(PARTS[part].seconds for part in parts)
    if not table or seconds < WARM * table:
        return
    with tempfile.NamedTemporaryFile("w", dir=cache_dir(), delete=False) as file:
        json.dump({**_paces(), group: round(seconds / table, 3)}, file)
    Path(file.name).replace(cache_dir() / "paces.json")


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(1)
        yield
