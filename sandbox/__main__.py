"""For developers: ``python -m sandbox build [PART…]`` and ``python -m sandbox up [--nodes N] [--kwok N]``."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from sandbox import (
    CONTROL_PLANE,
    NODE,
    ControlPlane,
    FakeNode,
    Progress,
    SandboxError,
    ensure,
    estimate,
    node_obstacle,
    run_directory,
    start_nodes,
)
from sandbox.node import MOST_NODES
from sandbox.parts import PARTS

TESTED = tuple(part for part in PARTS if part != "kubectl")
"""What the tests need: kubectl is for people."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.verb == "build":
            parts = tuple(arguments.parts) or (*CONTROL_PLANE, *NODE, "kwok")
            _build(TESTED if "tested" in parts else parts)
        else:
            _up(arguments.nodes, arguments.kwok)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A real Kubernetes on loopback.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build what a sandbox needs, or the parts named")
    build.add_argument("parts", nargs="*", metavar="PART", help=", ".join(("tested", *PARTS)))
    up = verbs.add_parser("up", help="run a sandbox until Ctrl-C")
    up.add_argument(
        "--nodes", type=int, choices=range(MOST_NODES + 1), default=1, metavar="N", help="real nodes (default: 1)"
    )
    up.add_argument("--kwok", type=int, default=0, metavar="N", help="fake nodes (default: 0)")
    return parser


def _build(parts: tuple[str, ...]) -> None:
    if seconds := estimate(parts):
        print(f"building, about {_minutes(seconds)}")
    found = ensure(parts, _show)
    print()
    for name, path in found.items():
        print(f"{name:26}{path}")


def _up(nodes: int, fakes: int) -> None:
    if nodes and (reason := node_obstacle()):
        print(f"no real node: {reason}; a kwok node instead")
        nodes, fakes = 0, max(fakes, 1)
    parts = ensure((*CONTROL_PLANE, *(NODE if nodes else ()), *(("kwok",) if fakes else ())), _show)
    signal.signal(signal.SIGTERM, _interrupt)
    with run_directory() as run_dir, ExitStack() as running:
        started = time.monotonic()
        cp = running.enter_context(ControlPlane.start(run_dir, parts))
        cp.start_scheduler()
        if fakes:
            cp.start_kwok()
            cp.add_fake_nodes(FakeNode(f"fake-{number:04}") for number in range(1, fakes + 1))
        if nodes:
            running.enter_context(start_nodes(cp, [f"node-{number}" for number in range(1, nodes + 1)]))
        print(f"up after {time.monotonic() - started:.1f} s; logs in {run_dir}/logs")
        print(f"export KUBECONFIG={cp.kubeconfig}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")


def _interrupt(signum: int, frame: object) -> None:
    del signum, frame
    raise KeyboardInterrupt


def _show(progress: Progress) -> None:
    parts = ", ".join(progress.parts)
    line = f"{parts}: {progress.elapsed:.0f} s, about {_minutes(progress.left_in_all)} left in all"
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)
    elif int(progress.elapsed) % 10 == 0:
        print(line, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
