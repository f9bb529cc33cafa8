"""Shipped packages are locked with hashes, match pyproject, and have allowed licences."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = {
    "runtime.lock": PROJECT["dependencies"],
    "dev.lock": [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]],
}


def a_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "requirements" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LICENCES, AUDIT = a_script("licences"), a_script("audit")


def entries(lock: str) -> list[str]:
    """Each locked requirement with its hashes, on one line."""
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins(lock: str) -> dict[str, str]:
    found = {}
    for entry in entries(lock):
        name, _, version = entry.split(";")[0].split()[0].partition("==")
        found[canonicalize_name(name)] = version
    return found


@pytest.mark.parametrize("lock", WANTED)
def test_every_line_is_one_version_with_hashes(lock: str) -> None:
    shape = re.compile(r"[A-Za-z0-9._-]+==\S+( ; [^-]*?)?(\s+--hash=sha256:[0-9a-f]{64})+")

    assert [entry[:80] for entry in entries(lock) if not shape.fullmatch(entry.strip())] == []


@pytest.mark.parametrize("lock", WANTED)
def test_no_host_and_no_path_is_named(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()

    assert re.findall(r"\S*(?:://|--index|--extra|--find-links|--trusted|@ )\S*", text) == []


@pytest.mark.parametrize("lock", WANTED)
def test_the_lock_is_what_pyproject_asks_for(lock: str) -> None:
    locked = pins(lock)
    unmet = [
        text
        for text in WANTED[lock]
        if not (want := Requirement(text)).specifier.contains(locked.get(canonicalize_name(want.name), "0"))
    ]

    assert unmet == [], "run `make lock`"


def test_developers_run_what_is_shipped() -> None:
    shipped, developed = pins("runtime.lock"), pins("dev.lock")

    assert {name: developed.get(name) for name in shipped} == shipped


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("Apache-2.0 AND MIT", True),
        ("Apache-2.0 AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("MPL-2.0 AND (GPL-2.0-only OR AGPL-3.0-only)", False),
        ("MIT AND (GPL-2.0-only OR (MIT AND ISC))", True),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_when_it_can_be_kept(expression: str, good: bool) -> None:
    assert LICENCES.allowed(expression) is good


def test_licences_are_read_from_ids_expressions_and_classifiers() -> None:
    def component(name: str, *licences: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "version": "1", "licenses": list(licences)}

    read = LICENCES.licences_of
    assert read(component("a", {"license": {"id": "MIT"}})) == ("MIT",)
    assert read(component("b", {"expression": "MIT OR ISC"})) == ("MIT OR ISC",)
    assert read(component("c", {"license": {"name": "License :: OSI Approved :: MIT License"}})) == ("MIT",)
    assert (read(component("d")), read(component("protobuf"))) == ((), ("BSD-3-Clause",))


def test_a_database_that_knows_nothing_is_not_a_clean_bill() -> None:
    clean, skipped = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}

    assert AUDIT.verdict({"dependencies": [clean]}) == (["1 packages audited, 0 vulnerabilities"], 0)
    assert AUDIT.verdict({"dependencies": [skipped]}) == (
        ["not audited: 1 of 1 packages that the database does not know", "0 packages audited, 0 vulnerabilities"],
        0,
    )
    assert AUDIT.verdict({"dependencies": [clean, skipped, bad]}) == (
        [
            "c 2: CVE-1, fixed in 3",
            "not audited: 1 of 3 packages that the database does not know",
            "2 packages audited, 1 vulnerabilities",
        ],
        1,
    )
