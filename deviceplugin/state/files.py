"""Files on the node: ledgers, CDI specs, arbiters. Every write is atomic.

    STATE/ledgers/<pod uid>/<container>       the limiter's ledger, mounted into the container
    STATE/grants/<pod uid>                    the grant that the pod was admitted with: what it really holds
    STATE/history/<pod uid>                   when the pod began and ended, for metering; kept for a week
    STATE/allocated/<slots>                   without CDI only: which container an Allocate was for
    STATE/instances/<card id>.<start>         a MIG instance of one of its pods: made, or about to be made
    STATE/arbiters/<card id>.<version>        one per card and version of the limiter's shared memory, shared by the
                                              containers that hold slices of the card
    STATE/mps/                                what MPS daemons are to run, how they are, and a directory for each
    STATE/lock                                held by the one device plugin that uses this directory
    STATE/ld.so.preload                       one line that names the limiter inside the container
    CDI/kerf.dev-grant_<slots>.json           the CDI spec of the containers that hold these slots

All of it but the history can be written again from the pods' grants, and none of it needs to survive a reboot.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from deviceplugin.core.edits import spec_uid
from deviceplugin.state.node_specs import OWN_PREFIX, NodeSpecs
from kerf.values.device import Card
from kerf.values.injection import LIBRARY, NodeFiles
from kerf.wire.limiter import ARBITER_ABI, render_arbiter
from kerf.wire.mps import REPORT, WANTED

_PRIVATE_DIR = 0o711
_SHARED_FILE = 0o666
"""Containers run as any user and charge their ledger. Only containers that mount it can reach it."""
_PLAIN_FILE = 0o644


class Files:
    """The plugin's files."""

    def __init__(self, state: str, cdi: str, limiter: str | None, specs: NodeSpecs) -> None:
        self._state = Path(state)
        self._cdi = Path(cdi)
        self._limiter = limiter or ""
        self._specs = specs
        kept = self._ledgers, self._grants, self._history, self._allocated, self._instances, self._arbiters
        for path in (*kept, self._cdi):
            path.mkdir(parents=True, exist_ok=True)
        self._ledgers.chmod(_PRIVATE_DIR)
        if limiter:
            write_atomic(self._preload, f"{LIBRARY}\n".encode(), _PLAIN_FILE)
        # Every start asks for all of them, and only this process writes them: STATE/lock.
        self._granted = {path.name: _read(path) for path in self._grants.iterdir() if path.suffix != ".tmp"}

    @property
    def limits(self) -> bool:
        """Whether containers get the limiter."""
        return bool(self._limiter)

    def node_files(
        self, cards: Iterable[Card], daemons: Mapping[str, str], instances: tuple[tuple[str, int, str], ...] = ()
    ) -> NodeFiles:
        """The host paths for containers that hold slices of these cards. Creates missing arbiters.

        `daemons` are the MPS daemons through which the container shares some of them, by card; `instances` the MIG
        instances of its pod (card, place, UUID).
        """
        listed = tuple(cards)
        limited = [card for card in listed if card.mig is None] if self._limiter else []
        return NodeFiles(
            limiter=self._limiter,
            preload=str(self._preload) if self._limiter else "",
            arbiters=tuple((card.id, self._arbiter(card.id)) for card in limited),
            specs=self._specs.edits(listed, instances),
            mps=tuple(sorted((card, str(self._mps / name / "pipe")) for card, name in daemons.items())),
            instances=instances,
        )

    def write_mps_wanted(self, text: str) -> None:
        """What the supervisor of MPS daemons is to run. No-op if the text is the same."""
        self._mps.mkdir(parents=True, exist_ok=True)
        if _read(self._mps / WANTED) != text:
            write_atomic(self._mps / WANTED, text.encode(), _PLAIN_FILE)

    def mps_wanted(self) -> str:
        """What was wanted of MPS daemons last, empty for nothing."""
        return _read(self._mps / WANTED)

    def mps_report(self) -> str:
        """What the supervisor of MPS daemons reports, empty for nothing."""
        return _read(self._mps / REPORT)

    def ledger_path(self, uid: str, container: str) -> str:
        """Path of a container's ledger."""
        return str(self._ledgers / _safe(uid) / _safe(container))

    def write_ledger(self, uid: str, container: str, data: bytes) -> None:
        """Write a fresh ledger. A running container keeps the one that it has mapped."""
        path = Path(self.ledger_path(uid, container))
        path.parent.mkdir(mode=_PRIVATE_DIR, exist_ok=True)
        write_atomic(path, data, _SHARED_FILE)

    def write_spec(self, stem: str, text: str) -> None:
        """Write a CDI spec file. No-op if its text is the same."""
        path = self._cdi / f"{OWN_PREFIX}{_safe(stem)}.json"
        if _read(path) != text:
            write_atomic(path, text.encode(), _PLAIN_FILE)

    def write_grant(self, uid: str, text: str) -> None:
        """Record the grant that a pod was admitted with. Written last: a pod without a record was not admitted."""
        write_atomic(self._grants / _safe(uid), text.encode(), _PLAIN_FILE)
        self._granted[_safe(uid)] = text

    def grants(self) -> dict[str, str]:
        """Recorded grants by uid of the admitted pods."""
        return dict(self._granted)

    def write_history(self, uid: str, text: str) -> None:
        """Record when a pod began and ended."""
        write_atomic(self._history / _safe(uid), text.encode(), _PLAIN_FILE)

    def has_history(self, uid: str) -> bool:
        """Whether `write_history` was called for the pod."""
        return (self._history / _safe(uid)).exists()

    def one_history(self, uid: str) -> str:
        """The text of `write_history` for a pod, empty where there is none."""
        return _read(self._history / _safe(uid))

    def history(self) -> dict[str, str]:
        """The texts of `write_history`, by uid."""
        return {path.name: _read(path) for path in self._history.iterdir() if path.suffix != ".tmp"}

    def drop_history(self, uids: Iterable[str]) -> None:
        """Forget these pods."""
        for uid in uids:
            (self._history / _safe(uid)).unlink(missing_ok=True)

    def write_allocated(self, stem: str, text: str) -> None:
        """Record an allocation under the stem of its slots."""
        write_atomic(self._allocated / _safe(stem), text.encode(), _PLAIN_FILE)

    def allocated(self) -> dict[str, str]:
        """The texts of `write_allocated`, by stem."""
        return {path.name: _read(path) for path in self._allocated.iterdir() if path.suffix != ".tmp"}

    def drop_allocated(self, stem: str) -> None:
        """Forget an allocation."""
        (self._allocated / _safe(stem)).unlink(missing_ok=True)

    def write_instance(self, stem: str, text: str) -> None:
        """Record a MIG instance under its card and place."""
        write_atomic(self._instances / _safe(stem), text.encode(), _PLAIN_FILE)

    def instances(self) -> dict[str, str]:
        """The texts of `write_instance`, by stem."""
        return {path.name: _read(path) for path in sorted(self._instances.iterdir()) if path.suffix != ".tmp"}

    def drop_instance(self, stem: str) -> None:
        """Forget an instance."""
        (self._instances / _safe(stem)).unlink(missing_ok=True)

    def ledgers(self) -> tuple[tuple[str, str, str], ...]:
        """(pod uid, container, file) of every ledger."""
        return tuple(sorted((p.parent.name, p.name, str(p)) for p in self._ledgers.glob("*/*") if p.suffix != ".tmp"))

    def remove_except(self, live: frozenset[str]) -> int:
        """Remove ledgers and specs of pods that are not `live`. Returns the number of removed files and directories."""
        gone = [path for path in self._ledgers.iterdir() if path.name not in live]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        files = [path for path in self._grants.iterdir() if path.name not in live]
        files += [path for path in self._cdi.glob(f"{OWN_PREFIX}*") if _stale(path, live)]
        for path in files:
            path.unlink(missing_ok=True)
        self._granted = {uid: text for uid, text in self._granted.items() if uid in live}
        return len(gone) + len(files)

    def remove_pod(self, uid: str, stem: str) -> None:
        """Remove one pod's ledgers, its record and its spec file. A file that is gone already is no error."""
        (self._cdi / f"{OWN_PREFIX}{_safe(stem)}.json").unlink(missing_ok=True)
        (self._grants / _safe(uid)).unlink(missing_ok=True)
        self._granted.pop(_safe(uid), None)
        shutil.rmtree(self._ledgers / _safe(uid), ignore_errors=True)

    @property
    def _ledgers(self) -> Path:
        return self._state / "ledgers"

    @property
    def _grants(self) -> Path:
        return self._state / "grants"

    @property
    def _history(self) -> Path:
        return self._state / "history"

    @property
    def _allocated(self) -> Path:
        return self._state / "allocated"

    @property
    def _instances(self) -> Path:
        return self._state / "instances"

    @property
    def _arbiters(self) -> Path:
        return self._state / "arbiters"

    @property
    def _mps(self) -> Path:
        return self._state / "mps"

    @property
    def _preload(self) -> Path:
        return self._state / "ld.so.preload"

    def _arbiter(self, card: str) -> str:
        path = self._arbiters / f"{_safe(card)}.{ARBITER_ABI}"
        if not path.exists():
            write_atomic(path, render_arbiter(), _SHARED_FILE)
        return str(path)


def write_atomic(path: Path, data: bytes, mode: int) -> None:
    """Replace a file. Readers see the old content or the new content, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fchmod(file, mode)
    finally:
        os.close(file)
    temporary.replace(path)


def _stale(path: Path, live: frozenset[str]) -> bool:
    return path.suffix != ".json" or spec_uid(_read(path)) not in live


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _safe(name: str) -> str:
    """A file name that stays in its directory, for any name from the API server or the driver."""
    text = name.replace("/", "_").replace("\0", "_")
    return text if text.strip(".") else f"_{text}"
