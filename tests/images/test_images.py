"""The Dockerfiles: linted, pinned, small, unprivileged; each installs what its daemon imports, and no more."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sandbox.dockerfile import Stage, parse_dockerfile
from scheduler.page.what_if import BOUNDED
from tests.source_code import imported

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
DAEMONS = ("scheduler", "webhook", "deviceplugin")
DISTRIBUTIONS = {
    "google": "protobuf",
    "grpc": "grpcio",
    "prometheus_client": "prometheus-client",
    "pynvml": "nvidia-ml-py",
    "yaml": "pyyaml",
}
"""Packages whose import name differs from the name to install."""


def stages(daemon: str) -> list[Stage]:
    return parse_dockerfile((IMAGES / f"{daemon}.Dockerfile").read_text())


def names(daemon: str) -> set[str]:
    lines = (IMAGES / f"{daemon}.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.chart
def test_the_linter_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run((hadolint, *sorted(IMAGES.glob("*.Dockerfile"))), capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_bases_are_pinned_by_their_full_version(daemon):
    for stage in stages(daemon):
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+|debian:\d+\.\d+-slim", stage.base), stage.base


@pytest.mark.parametrize("daemon", DAEMONS)
def test_compilers_and_pip_stay_behind(daemon):
    *build, last = stages(daemon)

    assert build
    assert last.runs == []
    assert all(copy.stage or copy.sources == ("images/install-limiter",) for copy in last.copies)
    assert last.entrypoint == ("/opt/kerf/bin/python", "-I", "-m", daemon)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_of_kerf_an_image_holds_the_kernel_and_its_daemon_alone(daemon):
    """No sandbox reaches the build, the command `kerf` only the scheduler's, and the script copies by name."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    sources = {source for stage in stages(daemon) for copy in stage.copies if not copy.stage for source in copy.sources}
    script = re.findall(r'^cp -R (.*) "\$site/"$', (IMAGES / "install.sh").read_text(), re.MULTILINE)

    assert {"kerfctl", "sandbox"} <= packages
    assert sources & packages == {"kerf", daemon, *({"kerfctl", "webhook"} if daemon == "scheduler" else ())}
    assert script == ['"$here/kerf" "$here/$daemon"']


def test_only_the_device_plugin_is_root():
    assert {daemon: stages(daemon)[-1].user for daemon in DAEMONS} == {
        "scheduler": "65532:65532",
        "webhook": "65532:65532",
        "deviceplugin": "0:0",
    }


def test_the_command_that_the_page_runs_needs_nothing_that_the_schedulers_image_lacks(tmp_path):
    """Loaded without every package of the other images."""
    lacks = (names("deviceplugin") | names("webhook") | {"rich"}) - names("scheduler")
    modules = {module for module, name in DISTRIBUTIONS.items() if name in lacks} | lacks
    (tmp_path / "nodes.json").write_text('{"kind": "Node", "metadata": {"name": "n"}}')
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)!r})); {BOUNDED}"
    command = [sys.executable, "-c", code, "simulate", "--new", "--json", str(tmp_path / "nodes.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "aiohttp" in modules


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_finds_everything_it_imports(daemon):
    """Modules reachable from the daemon through Kerf's own modules, late imports included."""
    wanted = {DISTRIBUTIONS.get(name, name) for name in reached(daemon)}

    assert wanted - {"urllib3"} == names(daemon)  # installed with kubernetes, which uses it


def reached(daemon: str) -> set[str]:
    """Top-level names of other packages that the daemon's modules, and those of Kerf that they import, import."""
    waiting = list((ROOT / daemon).rglob("*.py"))
    seen: set[Path] = set()
    foreign: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imported(path):
            top = module.partition(".")[0]
            if top == "kerf":
                waiting += sources(module)
            elif top != daemon and top not in sys.stdlib_module_names:
                foreign.add(top)
    return foreign


def sources(module: str) -> list[Path]:
    path = ROOT / module.replace(".", "/")
    return [found for found in (path.with_suffix(".py"), path / "__init__.py") if found.exists()]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_an_image_installs_from_the_lock_alone(daemon):
    lock = ROOT / "requirements" / "runtime.lock"
    script = (sys.executable, IMAGES / "subset.py", lock, IMAGES / f"{daemon}.txt")
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    pinned = set(re.findall(r"^([\w.-]+)==", printed, flags=re.MULTILINE))

    assert names(daemon) <= pinned
    assert ("ortools" in pinned) == (daemon == "scheduler")
    assert all(
        "--hash=sha256:" in block for block in re.split(r"^(?=[\w])", printed, flags=re.MULTILINE) if "==" in block
    )


def test_names_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[<>=]", dependency)[0].lower() for dependency in project["dependencies"]}

    assert set().union(*(names(daemon) for daemon in DAEMONS)) <= direct


def test_a_name_that_is_not_locked_is_an_error(tmp_path):
    wanted = tmp_path / "names"
    wanted.write_text("no-such-package\n")
    script = (sys.executable, IMAGES / "subset.py", ROOT / "requirements" / "runtime.lock", wanted)

    assert "no-such-package" in subprocess.run(script, capture_output=True, text=True, check=False).stderr


@pytest.mark.limiter
@pytest.mark.parametrize(
    ("architecture", "compiler"), [("amd64", "x86_64-linux-gnu-gcc"), ("arm64", "aarch64-linux-gnu-gcc")]
)
def test_the_limiter_is_built_for_both_architectures_and_loads_on_old_libraries(tmp_path, architecture, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here (apt-get install gcc-{compiler.removesuffix('-gcc').replace('_', '-')})")

    subprocess.run((IMAGES / "limiter.sh", architecture, tmp_path / "out"), check=True, capture_output=True)

    machine = (tmp_path / "out" / "libkerf.so").read_bytes()[18]
    assert machine == {"amd64": 62, "arm64": 183}[architecture]
