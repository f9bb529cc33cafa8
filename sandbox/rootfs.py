"""Images from the checkout's Dockerfiles, on a machine without a container engine.

The module executes the Dockerfile's own instructions: RUN, COPY, user and entry point. Only the base images are not
available here. This machine's Python, shell and C library replace them, and its compilers replace what a build stage
would install.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox.build import cache_dir
from sandbox.dockerfile import Copy, Stage, parse_dockerfile
from sandbox.errors import SandboxError
from sandbox.images import ARCHITECTURES, render_layout

BUILT = Path("/opt")
"""Build stages put their results below it. Each sees its own empty one; this machine's does not change."""
TOOLS = ("/bin/sh", "/bin/cp", "/bin/mv", "/bin/chmod")
RUN_SECONDS = 600
STAND_IN = frozenset({"site-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "include", "share"})
"""Parts of this machine's Python that an image does not need."""


def build_image(checkout: Path, dockerfile: Path, name: str) -> Path:
    """An OCI archive of the image, from the cache if its inputs have not changed.

    `dockerfile` is below `checkout`. Needs root (for a mount namespace). Raises SandboxError.
    """
    stages = parse_dockerfile(dockerfile.read_text())
    kept = cache_dir() / "images" / f"{dockerfile.stem}-{_digest(checkout, dockerfile, stages, name)}.tar"
    if kept.exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as work:
        root, built = Path(work) / "root", Path(work) / "opt"
        root.mkdir()
        for stage in stages[:-1]:
            _run(checkout, built, stage)
        for copy in stages[-1].copies:
            _copy(checkout, built, root, copy)
        _stand_in_for_the_base(root)
        layer = Path(work) / "layer.tar"
        _pack(root, layer)
        archive = Path(work) / "image.tar"
        _write_archive(archive, name, layer, stages[-1])
        archive.replace(kept)
    _forget_older(kept, dockerfile.stem)
    return kept


def build_host_image(name: str, trees: Mapping[str, Path], tools: Iterable[str], archive: Path) -> None:
    """Write an OCI archive of this machine's Python, a shell and some of its programs, and of further files.

    `trees`: files and folders of this machine by their path in the image. Raises SandboxError.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        root, layer = Path(work) / "root", Path(work) / "layer.tar"
        root.mkdir()
        for target, source in trees.items():
            _copy(source.parent, source.parent, root, Copy("", (source.name,), target))
        _stand_in_for_the_base(root, tools)
        _pack(root, layer)
        _write_archive(archive, name, layer, Stage("", ""))


def _forget_older(kept: Path, daemon: str) -> None:
    """Sources change often and an archive is large, so keep only the newest and those of two other checkouts."""
    archives = sorted(kept.parent.glob(f"{daemon}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in archives[3:]:
        archive.unlink(missing_ok=True)


def _run(checkout: Path, built: Path, stage: Stage) -> None:
    """Run the stage's own scripts. This machine already has what it would install."""
    built.mkdir(exist_ok=True)
    arch = ARCHITECTURES.get(platform.machine(), platform.machine())
    path = f"{sys.base_prefix}/bin:{os.environ['PATH']}"
    for command in (run for run in stage.runs if run.startswith("images/")):
        script = f'mount --bind "$0" {BUILT} && cd "$1" && {command}'
        argv = ("unshare", "--mount", "sh", "-euc", script, str(built), str(checkout))
        environment = {**os.environ, **stage.arguments, "PATH": path, "TARGETARCH": arch}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, env=environment)
        if done.returncode:
            raise SandboxError(f"{command}: {(done.stderr or done.stdout).strip()[-2000:]}")


def _copy(checkout: Path, built: Path, root: Path, copy: Copy) -> None:
    target = root / copy.target.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    for source in copy.sources:
        where = built / Path(source).relative_to(BUILT) if copy.stage else checkout / source
        if where.is_dir():
            shutil.copytree(where, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(where, target)


def _stand_in_for_the_base(root: Path, more: Iterable[str] = ()) -> None:
    """Python where the virtual environment expects it, a shell, and the libraries that they need."""
    prefix = Path(sys.base_prefix)

    def unwanted(_: str, names: list[str]) -> set[str]:
        return {name for name in names if name in STAND_IN or name.startswith("config-") or name.endswith(".a")}

    shutil.copytree(prefix, root / prefix.relative_to("/"), symlinks=True, ignore=unwanted)
    tools = (*TOOLS, *more)
    for tool in tools:
        _place(root, Path(tool))
    extensions = [path for path in root.rglob("*") if ".so" in path.suffixes and not path.is_symlink()]
    programs = [Path(os.path.realpath(tool)) for tool in (*tools, sysconfig.get_path("scripts") + "/python3")]
    for library in _libraries((*programs, *extensions)):
        _place(root, library)
    (root / "tmp").mkdir(mode=0o1777, exist_ok=True)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The libraries of this machine that programs and libraries are linked with."""
    listed = subprocess.run(("ldd", *map(str, programs)), capture_output=True, text=True, check=False).stdout
    words = {word for line in listed.splitlines() for word in line.split() if word.startswith("/")}
    found = {Path(word) for word in words if not word.endswith(":")}
    return {path for path in found if path.exists() and path.parts[1] in {"lib", "lib64", "usr"}}


def _place(root: Path, path: Path) -> None:
    """A file of this machine at its own path."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def _pack(root: Path, layer: Path) -> None:
    """A layer of everything below `root`, owned by root, readable by all."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode |= 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with tarfile.open(layer, "w") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, path.name, filter=owned)


def _write_archive(archive: Path, name: str, layer: Path, stage: Stage) -> None:
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    settings: dict[str, Any] = {"Entrypoint": list(stage.entrypoint), "User": stage.user}
    settings["Env"] = [f"{key}={value}" for key, value in stage.environment.items()]
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    documents = render_layout(name, f"sha256:{digest}", layer.stat().st_size, settings, architecture)
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, f"blobs/sha256/{digest}")
        for path, document in documents.items():
            _add(tar, path, document)


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def _digest(checkout: Path, dockerfile: Path, stages: list[Stage], name: str) -> str:
    """The image's inputs: its name, its Dockerfile, every copied file, this module and this Python."""
    sources = {source for stage in stages for copy in stage.copies if not copy.stage for source in copy.sources}
    hashed = hashlib.sha256(f"{name} {sys.version}".encode())
    for path in (dockerfile, Path(__file__), *_files(checkout / source for source in sorted(sources))):
        hashed.update(str(path.name).encode())
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            below = (each for each in sorted(path.rglob("*")) if each.is_file())
            yield from (each for each in below if not {"__pycache__", "build"} & set(each.parts[len(path.parts) :]))
        else:
            yield path
