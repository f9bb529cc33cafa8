"""Parts are looked for in a fixed order, and built once per source, flags and compiler. Go builds one tiny program."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from sandbox import build
from sandbox.errors import SandboxError
from sandbox.parts import CONTROL_PLANE, GROUPS, NODE, PARTS, Installed

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


@pytest.fixture(autouse=True)
def an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("KUEUE_BIN", raising=False)
    return tmp_path / "cache"


def a_program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_every_part_belongs_to_a_group_with_a_module_of_its_own():
    assert {part.group for part in PARTS.values()} == set(GROUPS)
    assert all((build.PACKAGE / group.directory / "go.mod").exists() for group in GROUPS.values())
    assert set(CONTROL_PLANE) | set(NODE) <= set(PARTS)


def test_kubebuilder_assets_come_first(tmp_path, monkeypatch):
    chosen = a_program(tmp_path / "assets" / "etcd")
    a_program(tmp_path / "bin" / "etcd", "etcd Version: 3.6.1")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    assert build.locate("etcd") == chosen


@needs_go
@pytest.mark.parametrize(("says", "taken"), [("etcd Version: 3.6.1", True), ("etcd Version: 3.4.23", False)])
def test_a_program_on_the_path_is_taken_when_its_version_will_do(tmp_path, monkeypatch, says, taken):
    found = a_program(tmp_path / "bin" / "etcd", says)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    assert build.locate("etcd") == (found if taken else None)


@needs_go
def test_a_namesake_on_the_path_is_not_taken_for_a_network_plugin(tmp_path, monkeypatch):
    a_program(tmp_path / "bin" / "bridge", "bridge utility, iproute2-6.1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    assert build.locate("bridge") is None


def test_kueue_has_a_variable_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("KUEUE_BIN", str(tmp_path / "kueue"))

    assert build.locate("kueue") == tmp_path / "kueue"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Kubernetes v1.36.0", True),
        ("Kubernetes v1.35.9", False),
        ("Kubernetes v1.37.0", False),
        ("kubelet of my own", False),
    ],
)
def test_versions_are_read_from_what_programs_say(text, fits):
    assert build._version_fits(text, Installed((1, 36), (1, 37))) is fits


def test_an_unknown_part_is_answered_with_the_known_ones():
    with pytest.raises(SandboxError, match="no part is called 'kube-proxy'; parts: kube-apiserver, "):
        build.ensure(("kube-proxy",))


@needs_go
def test_a_part_is_built_once_and_runs(an_empty_cache):
    told: list[build.Progress] = []

    assert build.estimate(("sleeper",)) > 0
    sleeper = build.ensure(("sleeper",), told.append)["sleeper"]

    assert told[0].parts == ("sleeper",)
    assert sleeper.is_relative_to(an_empty_cache)
    ran = subprocess.run((sleeper, "--exit", "7"), env={"A": "b"}, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (7, "A=b\nready\n")
    told.clear()
    assert build.ensure(("sleeper",), told.append) == {"sleeper": sleeper}
    assert told == []
    assert build.estimate(("sleeper",)) == 0


@needs_go
def test_two_builders_do_not_collide(monkeypatch):
    runs: list[object] = []
    really = build._run
    monkeypatch.setattr(build, "_run", lambda *args: (runs.append(args), really(*args)))
    builders = [threading.Thread(target=build.ensure, args=(("sleeper",),)) for _ in range(2)]

    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()

    assert len(runs) == 1


@needs_go
def test_a_changed_source_is_another_part(tmp_path, monkeypatch):
    shutil.copytree(build.PACKAGE / "images", tmp_path / "images")
    monkeypatch.setattr(build, "PACKAGE", tmp_path)
    before = build._home(GROUPS["sleeper"])

    (tmp_path / "images" / "sleeper" / "main.go").write_text("package main\n")

    assert build._home(GROUPS["sleeper"]) != before


@needs_go
def test_a_failed_build_shows_what_the_compiler_said(tmp_path, monkeypatch):
    shutil.copytree(build.PACKAGE / "images", tmp_path / "images")
    monkeypatch.setattr(build, "PACKAGE", tmp_path)
    (tmp_path / "images" / "sleeper" / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")

    with pytest.raises(SandboxError, match=r"building sleeper failed:\n(.*\n)*.*undefined: nonsense"):
        build.ensure(("sleeper",))


def test_without_go_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SandboxError, match=r"Go is not installed: https://go.dev/doc/install"):
        build.ensure(("sleeper",))
