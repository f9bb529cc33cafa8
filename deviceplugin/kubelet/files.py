"""Files on the node: ledgers, CDI specs, arbiters. Every write is atomic; nothing here decides.

    STATE/ledgers/<pod uid>/<container>       the limiter's ledger, mounted into the container
    STATE/grants/<pod uid>                    the grant that the pod was let in with: what it really holds
    STATE/allocated/<slots>                   without CDI only: whom an Allocate was for
    STATE/arbiters/<card id>                  one per card, shared by the containers that hold slices of it
    STATE/ld.so.preload                       one line that names the limiter inside the container
    CDI/kerf.dev-grant_<slots>.json           the CDI spec of the containers that hold these slots

All of it can be made anew from the pods' grants, so none of it needs to survive a reboot.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deviceplugin.core.edits import LIBRARY, spec_uid
from kerf.values.device import Card
from kerf.values.injection import NodeFiles
from kerf.vendors.registry import VENDORS
from kerf.wire.cdi import parse_spec_devices
from kerf.wire.limiter import render_arbiter

_LOG = logging.getLogger("kerf.deviceplugin.files")
SPEC_PREFIX = "kerf.dev-grant_"
_PRIVATE_DIR = 0o711
_SHARED_FILE = 0o666
"""Containers run as any user and charge their ledger; only the ones it is mounted into can reach it."""
_PLAIN_FILE = 0o644


class Files:
    """The plugin's files. `specs_from` are directories where the node's own CDI specs stand."""

    def __init__(self, state: str, cdi: str, limiter: str | None, specs_from: Iterable[str] = ()) -> None:
        self._state = Path(state)
        self._cdi = Path(cdi)
        self._limiter = limiter or ""
        self._foreign = ForeignSpecs(specs_from)
        for path in (self._ledgers, self._grants, self._allocated, self._arbiters, self._cdi):
            path.mkdir(parents=True, exist_ok=True)
        self._ledgers.chmod(_PRIVATE_DIR)
        if limiter:
            write_atomic(self._preload, f"{LIBRARY}\n".encode(), _PLAIN_FILE)

    def node_files(self, cards: Iterable[Card]) -> NodeFiles:
        """What containers that hold slices of these cards can be given; makes arbiters that are missing."""
        listed = tuple(cards)
        return NodeFiles(
            limiter=self._limiter,
            preload=str(self._preload) if self._limiter else "",
            arbiters=tuple((card.id, self._arbiter(card.id)) for card in listed) if self._limiter else (),
            specs=self._foreign.edits(listed),
        )

    def ledger_path(self, uid: str, container: str) -> str:
        """Where a container's ledger stands."""
        return str(self._ledgers / _safe(uid) / _safe(container))

    def write_ledger(self, uid: str, container: str, data: bytes) -> None:
        """A fresh ledger; a running container keeps the one it has mapped."""
        path = Path(self.ledger_path(uid, container))
        path.parent.mkdir(mode=_PRIVATE_DIR, exist_ok=True)
        write_atomic(path, data, _SHARED_FILE)

    def write_spec(self, stem: str, text: str) -> None:
        """A CDI spec file; left alone where it says the same already."""
        path = self._cdi / f"{SPEC_PREFIX}{_safe(stem)}.json"
        if _read(path) != text:
            write_atomic(path, text.encode(), _PLAIN_FILE)

    def write_grant(self, uid: str, text: str) -> None:
        """Remember what a pod was let in with. Written last: a pod without it was not let in."""
        write_atomic(self._grants / _safe(uid), text.encode(), _PLAIN_FILE)

    def grants(self) -> dict[str, str]:
        """Grants by uid of the pods that were let in."""
        return {path.name: _read(path) for path in self._grants.iterdir() if path.suffix != ".tmp"}

    def write_allocated(self, stem: str, text: str) -> None:
        """Remember whom an Allocate was for."""
        write_atomic(self._allocated / _safe(stem), text.encode(), _PLAIN_FILE)

    def allocated(self) -> dict[str, str]:
        """What `write_allocated` was given, by stem."""
        return {path.name: _read(path) for path in self._allocated.iterdir() if path.suffix != ".tmp"}

    def ledgers(self) -> tuple[tuple[str, str, str], ...]:
        """(pod uid, container, file) of every ledger."""
        return tuple(sorted((p.parent.name, p.name, str(p)) for p in self._ledgers.glob("*/*") if p.suffix != ".tmp"))

    def remove_except(self, live: frozenset[str]) -> int:
        """Remove ledgers and specs of pods that are not `live`; how many files and directories went."""
        gone = [path for path in self._ledgers.iterdir() if path.name not in live]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        files = [path for path in self._grants.iterdir() if path.name not in live]
        files += [path for path in self._cdi.glob(f"{SPEC_PREFIX}*") if _stale(path, live)]
        for path in files:
            path.unlink(missing_ok=True)
        return len(gone) + len(files)

    @property
    def _ledgers(self) -> Path:
        return self._state / "ledgers"

    @property
    def _grants(self) -> Path:
        return self._state / "grants"

    @property
    def _allocated(self) -> Path:
        return self._state / "allocated"

    @property
    def _arbiters(self) -> Path:
        return self._state / "arbiters"

    @property
    def _preload(self) -> Path:
        return self._state / "ld.so.preload"

    def _arbiter(self, card: str) -> str:
        path = self._arbiters / _safe(card)
        if not path.exists():
            write_atomic(path, render_arbiter(), _SHARED_FILE)
        return str(path)


class ForeignSpecs:
    """The node's own CDI specs for whole cards, parsed again only when a file changes."""

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = tuple(Path(directory) for directory in directories)
        self._parsed: dict[tuple[str, int, int], dict[str, dict[str, Mapping[str, Any]]]] = {}

    def edits(self, cards: Iterable[Card]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """(card id, edits) of the cards that have a spec, by id or else by index."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for path in self._paths():
            for kind, devices in self._devices(path).items():
                found.setdefault(kind, {}).update(devices)
        kinds = {vendor.name: vendor.cdi_kind for vendor in VENDORS}
        edits = []
        for card in cards:
            devices = found.get(kinds.get(card.vendor, ""), {})
            own = devices.get(card.id) or devices.get(str(card.index))
            if own:
                edits.append((card.id, own))
        return tuple(edits)

    def _paths(self) -> list[Path]:
        files = [path for directory in self._directories if directory.is_dir() for path in sorted(directory.iterdir())]
        return [p for p in files if p.suffix in {".json", ".yaml", ".yml"} and not p.name.startswith(SPEC_PREFIX)]

    def _devices(self, path: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
        try:
            state = path.stat()
            key = (str(path), state.st_mtime_ns, state.st_size)
            if key not in self._parsed:
                self._parsed = {k: v for k, v in self._parsed.items() if k[0] != str(path)}
                text = path.read_text(encoding="utf-8")
                plain = text if path.suffix == ".json" else json.dumps(yaml.safe_load(text))
                self._parsed[key] = {v.cdi_kind: parse_spec_devices(plain, v.cdi_kind) for v in VENDORS}
            return self._parsed[key]
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            _LOG.warning("CDI spec %s cannot be read: %s", path, error)
            return {}


def write_atomic(path: Path, data: bytes, mode: int) -> None:
    """Readers see the old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.chmod(mode)
    temporary.replace(path)


def _stale(path: Path, live: frozenset[str]) -> bool:
    return path.suffix != ".json" or spec_uid(_read(path)) not in live


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _safe(name: str) -> str:
    """A file name that stays in its directory, whatever the API server or the driver says."""
    text = name.replace("/", "_").replace("\0", "_")
    return text if text.strip(".") else f"_{text}"
