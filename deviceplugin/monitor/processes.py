"""Processes of the node by their PID on the host: their container, and their PID inside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from deviceplugin.core.usage import parse_cgroup


class Processes:
    """Reads the host's procfs. The plugin runs with hostPID."""

    def __init__(self, root: str = "/proc") -> None:
        self._root = Path(root)
        self.leave_out: Callable[[], frozenset[int]] = frozenset
        """PIDs that belong to no container although they run in one: MPS servers."""

    def owner_of(self, pid: int) -> tuple[str, str] | None:
        """(pod uid, container id) of a process; None outside of pods or if the process is gone."""
        if pid in self.leave_out():
            return None
        return parse_cgroup(self._read(pid, "cgroup"))

    def in_pod(self, uid: str) -> Iterator[tuple[int, int, int]]:
        """(host PID, PID inside, start in clock ticks since boot) of every process of a pod."""
        for entry in self._root.iterdir():
            if not entry.name.isdigit() or uid not in self._read(int(entry.name), "cgroup").replace("_", "-"):
                continue
            inside = self._inside(int(entry.name))
            if inside:
                yield int(entry.name), *inside

    def _inside(self, pid: int) -> tuple[int, int] | None:
        status, stat = self._read(pid, "status"), self._read(pid, "stat")
        spaces = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        fields = stat.rpartition(")")[2].split()
        if not spaces or len(fields) < 20:
            return None
        return int(spaces[-1]), int(fields[19])  # field 22 of stat; the first two end at ")"

    def _read(self, pid: int, name: str) -> str:
        try:
            return (self._root / str(pid) / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
