"""What the limiter's tests share: build it once, make ledgers, run programs under it against the fake driver."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kerf.wire.limiter import CardLimit, LedgerSpec, LedgerView, Policy, parse_ledger, render_ledger

ROOT = Path(__file__).resolve().parents[2]
LIMITER = ROOT / "limiter"
BUILD = LIMITER / "build"
LIBRARY = BUILD / "libkerf.so"
MIB = 2**20
OOM = "2"


def eventually(condition: Callable[[], bool], timeout: float = 20) -> None:
    """Wait until the condition holds; fail when it does not within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def card_uuid(index: int) -> str:
    """The fake driver's cards differ in the last byte."""
    return f"GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae{index:02x}"


def limits(
    *memory_mib: float | None, cores: int | None = None, policy: Policy = "cap", priority: int = 0, arbiter: str = ""
) -> LedgerSpec:
    """One slice per card, in order."""
    cards = tuple(
        CardLimit(card_uuid(i), None if mib is None else int(mib * MIB), cores, arbiter)
        for i, mib in enumerate(memory_mib)
    )
    return LedgerSpec(cards=cards, policy=policy, priority=priority)


@dataclass
class Box:
    """A container without a container: a ledger file, and the environment its processes get."""

    folder: Path
    spec: LedgerSpec
    name: str = "ledger"
    settings: dict[str, str | None] = field(default_factory=dict)
    """Environment variables of its processes; None takes one away."""
    within: tuple[str, ...] = ()
    """A command that runs its probes, such as `unshare` with its options."""

    def __post_init__(self) -> None:
        self.path.write_bytes(render_ledger(self.spec))

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def environment(self) -> dict[str, str]:
        found: dict[str, str | None] = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FAKE_", "KERF_", "LD_"))},
            "LD_PRELOAD": str(LIBRARY),
            "LD_LIBRARY_PATH": str(BUILD / "fake"),
            "KERF_LEDGER": str(self.path),
            "FAKE_GPU": str(self.folder / "gpu"),
            **self.settings,
        }
        return {key: value for key, value in found.items() if value is not None}

    def view(self) -> LedgerView:
        return parse_ledger(self.path.read_bytes())

    def charged(self, card: int = 0) -> int:
        return self.view().cards[card].charged_bytes

    def run(self, *command: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one program to its end under the limiter."""
        argv = [str(part) for part in command]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False)

    @contextmanager
    def probe(self, device: int = 0, init: bool = True) -> "Iterator[Probe]":
        """A process in this box that obeys commands; it has a context on `device`."""
        process = subprocess.Popen(
            [*self.within, BUILD / "programs" / "probe"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        probe = Probe(process)
        try:
            if init:
                assert probe("init", device) == "0"
            yield probe
        finally:
            process.kill()
            process.communicate()


@dataclass
class Probe:
    """A running probe program: `probe("alloc", 1, 4096)` sends a line and returns the answer."""

    process: "subprocess.Popen[str]"

    def __call__(self, verb: str, *numbers: int) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(" ".join([verb, *map(str, numbers)]) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def exec(self) -> str:
        """The process executes its program again, under the same PID, and makes a context again."""
        assert self.process.stdin
        self.process.stdin.write("exec\n")
        self.process.stdin.flush()
        return self("init", 0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
