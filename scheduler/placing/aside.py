"""Plans are made in a process of their own, so that no answer waits for the interpreter while one is made.

The process starts with the first plan, keeps what it was sent of the nodes, and is sent those that have changed. It
ends after a while without plans, when its parent ends, or when a plan fails; the next plan starts another one. Frames
on its pipes are a length and a pickle; only these two ends, of one program, ever write to them.
"""

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Self

from kerf.values.grant import CardUse
from scheduler.core.state import CardState, NodeState
from scheduler.solver.problem import Plan, Problem
from scheduler.solver.solve import plan

IDLE_S = 300.0
"""Without a plan for this long the process ends, and its memory is free."""
NICE = 10
"""Answers come first where processors are scarce."""
NODES_A_FRAME = 32
"""Few enough that packing a frame keeps no answer waiting."""
COMMAND = (sys.executable, "-c", f"from {__name__} import main; main()")
"""Not `-m`: the pickles name this module, which would then be another one there."""
_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class _Question:
    """A problem without its nodes: of these the process knows all but the changed ones, which came before."""

    problem: Problem
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """A node of which the process knows the cards: what is held of each and whether it is usable, and all else.

    To pack the cards as well takes eight times as long.
    """

    name: str
    held: tuple[tuple[int, int, int, int, bool], ...]
    rest: tuple[int, int, str, bool]

    @classmethod
    def of(cls, state: NodeState) -> Self:
        """All of a node but its cards."""
        held = tuple(
            (each.used.memory_mib, each.used.cores, each.used.slots, each.used.places, each.usable)
            for each in state.cards
        )
        return cls(state.name, held, (state.free_cpu_milli, state.free_memory_mib, state.problem, state.schedulable))

    def after(self, before: NodeState) -> NodeState:
        """The node as it is now."""
        pairs = zip(before.cards, self.held, strict=True)
        cards = tuple(CardState(known.card, CardUse(*used), usable) for known, (*used, usable) in pairs)
        return NodeState(self.name, cards, *self.rest)


class PlanError(Exception):
    """The process that plans failed, or ended."""


class Aside:
    """The parent's end. For one thread."""

    def __init__(self, command: tuple[str, ...] = COMMAND, pause: Callable[[], object] = lambda: None) -> None:
        self._command = command
        self._pause = pause
        """Called after each frame, so that others may go first."""
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: dict[str, NodeState] = {}

    def plan(self, problem: Problem) -> Plan:
        """`scheduler.solver.solve.plan`, made elsewhere. Raises PlanError."""
        process = self._running()
        try:
            for frame in self._frames(problem):
                _write(process.stdin, frame)
                self._pause()
            answer = _read(process.stdout)
        except (OSError, EOFError, pickle.PickleError) as error:
            self.close()
            raise PlanError(f"the process that plans ended: {type(error).__name__}: {error}") from error
        assert isinstance(answer, Plan)
        return answer

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process, self._sent = self._process, None, {}
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()

    # ---- inside
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, close_fds=True
            )
        return self._process

    def _frames(self, problem: Problem) -> Iterator[bytes]:
        changed = [self._said(state) for state in problem.nodes if self._sent.get(state.name) is not state]
        for start in range(0, len(changed), NODES_A_FRAME):
            yield pickle.dumps(tuple(changed[start : start + NODES_A_FRAME]), pickle.HIGHEST_PROTOCOL)
        self._sent = {state.name: state for state in problem.nodes}
        yield pickle.dumps(_Question(replace(problem, nodes=()), tuple(self._sent)), pickle.HIGHEST_PROTOCOL)

    def _said(self, state: NodeState) -> NodeState | _Change:
        """A node, without its cards where these are the very same ones as before."""
        before = self._sent.get(state.name)
        if before is None or len(before.cards) != len(state.cards):
            return state
        same = all(old.card is new.card for old, new in zip(before.cards, state.cards, strict=True))
        return _Change.of(state) if same else state


def answer_all(read: Callable[[], object], write: Callable[[Plan], None]) -> None:
    """Take in nodes and answer questions until `read` raises EOFError."""
    known: dict[str, NodeState] = {}
    while True:
        try:
            said = read()
        except EOFError:
            return
        if isinstance(said, tuple):
            known |= {each.name: each if isinstance(each, NodeState) else each.after(known[each.name]) for each in said}
        else:
            assert isinstance(said, _Question)
            known = {name: known[name] for name in said.names}
            write(plan(replace(said.problem, nodes=tuple(known.values()))))


def _write(pipe: IO[bytes] | None, frame: bytes) -> None:
    assert pipe is not None
    left = memoryview(_LENGTH.pack(len(frame)) + frame)
    while left:
        left = left[pipe.write(left) :]


def _read(pipe: IO[bytes] | None) -> object:
    assert pipe is not None
    length = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0]
    found: object = pickle.loads(_exactly(pipe, length))  # noqa: S301 (of the same program)
    return found


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = pipe.read(count - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def main() -> None:
    """The process's own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent's end ends it
    os.nice(NICE)
    pipe_in, pipe_out = os.fdopen(0, "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer

    def read() -> object:
        if not select.select([pipe_in], [], [], IDLE_S)[0]:
            raise EOFError
        return _read(pipe_in)

    answer_all(read, lambda answer: _write(pipe_out, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)))
