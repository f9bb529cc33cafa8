"""A control plane and a real node per module, so that no module affects the next."""

import gc
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from sandbox import (
    CONTROL_PLANE,
    NODE,
    ControlPlane,
    FakeNode,
    Kueue,
    Node,
    ensure,
    install_job_kinds,
    node_obstacle,
    run_directory,
    start_kueue,
)
from sandbox.build import Progress
from sandbox.processes import Supervisor, tail

FALLBACK_NODE = "fake-instead-of-real"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last words of processes that have ended: their logs go with the module."""
    report = yield
    if report.failed:
        running = [each for each in gc.get_objects() if isinstance(each, Supervisor)]
        logs = [each.log(name) for each in running for name in each.names() if not each.alive(name)]
        report.sections += [(f"the end of {log}, whose process has ended", tail(log)) for log in logs if log.exists()]
    return report


@pytest.fixture(scope="session")
def parts(request: pytest.FixtureRequest) -> Mapping[str, Path]:
    """The programs. The first run builds them and reports how long that takes."""
    return _built(request, (*CONTROL_PLANE, *NODE, "kwok"))


@pytest.fixture(scope="session")
def kueue_program(request: pytest.FixtureRequest) -> Path:
    """Kueue's manager. It takes ten minutes to build, so only tests that ask for it get it."""
    return _built(request, ("kueue",))["kueue"]


def _built(request: pytest.FixtureRequest, names: tuple[str, ...]) -> Mapping[str, Path]:
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def tell(progress: Progress) -> None:
        if terminal and int(progress.elapsed) % 15 == 0:
            names = ", ".join(progress.parts)
            terminal.write_line(f"building {names}: about {progress.left_in_all:.0f} s left in all")

    return ensure(names, tell)


@pytest.fixture(scope="module")
def control_plane(parts: Mapping[str, Path]) -> Iterator[ControlPlane]:
    """Etcd, API server (with audit log), controller manager and kwok. A test that needs kube-scheduler starts it."""
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts, audit=True) as cp:
        cp.start_kwok()
        yield cp


@pytest.fixture(scope="module")
def kueue(control_plane: ControlPlane, kueue_program: Path) -> Kueue:
    """A Kueue manager for the module's control plane, with JobSets and LeaderWorkerSets."""
    install_job_kinds(control_plane)
    return start_kueue(control_plane)


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane) -> Iterator[Node]:
    """A real kubelet with containerd. If none can run here, the test is skipped with the reason."""
    if reason := node_obstacle():
        pytest.skip(f"no real node: {reason}")
    with Node.start(control_plane) as real:
        yield real
        _forget(control_plane, real.name)


def _forget(cp: ControlPlane, node: str) -> None:
    """Remove a node and its pods; otherwise the next module's node would start them again."""
    for pod in cp.api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]:
        meta = pod["metadata"]
        cp.api.remove(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", grace_seconds=0)
    cp.api.delete(f"/api/v1/nodes/{node}")


@pytest.fixture(scope="module")
def node_name(control_plane: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A node that runs pods: the real one or, if none can run here, a kwok node. The terminal shows why."""
    if not (reason := node_obstacle()):
        real: Node = request.getfixturevalue("node")
        return real.name
    if terminal := request.config.pluginmanager.getplugin("terminalreporter"):
        terminal.write_line(f"a kwok node replaces the real one: {reason}")
    if FALLBACK_NODE not in control_plane.ready_nodes():
        control_plane.add_fake_nodes([FakeNode(FALLBACK_NODE)])
    return FALLBACK_NODE
