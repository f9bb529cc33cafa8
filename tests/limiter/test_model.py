"""Random calls against a model: at every step the ledger holds exactly what is alive, and a refusal was due."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.effort import examples
from tests.limiter.harness import MIB, Box, Probe, limits

LIMIT = 64 * MIB


def charge(size: int) -> int:
    """Up to 1 MiB by 512 bytes, above by 2 MiB."""
    grain = 512 if size <= MIB else 2 * MIB
    return -(-size // grain) * grain


@dataclass
class Physical:
    """Memory made by cuMemCreate."""

    size: int
    handles: int = 1
    maps: int = 0


@dataclass
class Model:
    """What must be charged."""

    plain: dict[int, tuple[str, int]] = field(default_factory=dict)
    handles: dict[int, Physical] = field(default_factory=dict)
    maps: dict[int, tuple[Physical, int]] = field(default_factory=dict)

    @property
    def charged(self) -> int:
        physical = {id(p): p for p in [*self.handles.values(), *(p for p, _ in self.maps.values())]}
        return sum(size for _, size in self.plain.values()) + sum(p.size for p in physical.values())


@contextmanager
def a_probe() -> Iterator[tuple[Box, Probe]]:
    with TemporaryDirectory() as folder:
        box = Box(Path(folder), limits(LIMIT / MIB))
        with box.probe() as probe:
            yield box, probe


class Calls(RuleBasedStateMachine):
    """One process, every kind of memory that is charged by the block."""

    def __init__(self) -> None:
        super().__init__()
        self.context = a_probe()
        self.box, self.probe = self.context.__enter__()
        self.model = Model()
        self.next = 1

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    def _take(self, verb: str, size: int, charged: int, *numbers: int) -> None:
        answer = self.probe(verb, self.next, *numbers)
        fits = self.model.charged + charged <= LIMIT
        assert answer == ("0 ok" if fits else "2 ok"), (verb, size, self.model.charged)
        if fits:
            self.model.plain[self.next] = (verb, charged)
            self.next += 1

    @rule(verb=st.sampled_from(["alloc", "managed"]), size=st.integers(1, 20 * MIB) | st.integers(1, 4096))
    def plain(self, verb: str, size: int) -> None:
        self._take(verb, size, charge(size), size)

    @rule(width=st.integers(1, 9000), height=st.integers(1, 3000))
    def pitch(self, width: int, height: int) -> None:
        self._take("pitch", width, charge(-(-width // 512) * 512 * height), width, height)

    @rule(width=st.integers(1, 2000), height=st.integers(1, 2000))
    def array(self, width: int, height: int) -> None:
        rounded = -(-4 * width * height // 65536) * 65536
        self._take("array", width, charge(rounded), width, height)

    @rule(pages=st.integers(1, 12))
    def create(self, pages: int) -> None:
        size = pages * 2 * MIB
        fits = self.model.charged + size <= LIMIT
        assert self.probe("create", self.next, size, 0) == ("0 ok" if fits else "2 ok")
        if fits:
            self.model.handles[self.next] = Physical(size)
            self.next += 1

    @precondition(lambda self: self.model.plain)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.plain)))
        verb, _ = self.model.plain.pop(name)
        assert self.probe("freearray" if verb == "array" else "free", name) == "0 ok"

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data())
    def map(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.handles)))
        physical = self.model.handles[name]
        assert self.probe("map", self.next, name, physical.size) == "0 ok"
        physical.maps += 1
        self.model.maps[self.next] = (physical, physical.size)
        self.next += 1

    @precondition(lambda self: self.model.maps)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.maps)))
        physical, size = self.model.maps.pop(name)
        physical.maps -= 1
        assert self.probe("unmap", name, size) == "0 ok"

    @precondition(lambda self: self.model.maps)
    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.maps)))
        physical, _ = self.model.maps[name]
        assert self.probe("retain", self.next, name) == "0 ok"
        physical.handles += 1
        self.model.handles[self.next] = physical
        self.next += 1

    @precondition(lambda self: self.model.handles)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.handles)))
        self.model.handles.pop(name).handles -= 1
        assert self.probe("release", name) == "0 ok"

    @invariant()
    def the_ledger_is_the_sum_of_what_lives(self) -> None:
        assert self.box.charged() == self.model.charged
        (process,) = self.box.view().processes
        assert process.bytes_by_card == (self.model.charged,)
        assert sum(process.bytes_by_kind.values()) == self.model.charged


Calls.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCalls = Calls.TestCase
