"""One day and its verdict."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sandbox import CONTROL_PLANE, ControlPlane, SandboxError, ensure, run_directory
from tests.cluster.chaos.days import Day, Facts
from tests.cluster.chaos.world import Size, Watcher, World


@dataclass(frozen=True)
class Verdict:
    """The result of a day: broken invariants, lost pods, and facts."""

    name: str
    seconds: float
    facts: Facts
    overcommitted: int
    lost: int
    problems: tuple[str, ...]
    looks: int

    def __str__(self) -> str:
        facts = ", ".join(f"{key} {value}" for key, value in self.facts.items())
        word = "well" if not self.problems else "BAD: " + "; ".join(self.problems[:3])
        return f"{self.name:24} {self.seconds:6.1f} s  {self.looks:4} looks  {word}  ({facts})"


def live_through(world: World, name: str, day: Day) -> Verdict:
    """Run a day and judge it, then repair the world."""
    watcher = Watcher(world.cp)
    start = time.monotonic()
    problems: list[str] = []
    facts: Facts = {}
    with watcher.watching():
        try:
            facts = day(world)
        except (SandboxError, AssertionError) as error:
            problems.append(str(error))
        world.revive()
    lost = len(world.waiting())
    seconds = time.monotonic() - start
    if not watcher.looks:
        problems.append("nobody looked")
    world.clear()
    held = [each for each in watcher.wrong if each.startswith("card ")]
    return Verdict(name, seconds, facts, len(held), lost, (*watcher.wrong, *problems), watcher.looks)


@contextmanager
def a_world(size: Size, *, express: bool = False) -> Iterator[World]:
    """A control plane with everything on it; with `express` the express lane is on all the time."""
    parts = ensure((*CONTROL_PLANE, "kwok"))
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts) as cp:
        cp.start_kwok()
        world = World(cp, size, express)
        world.build()
        yield world
