"""The keys that sign sessions: in one Secret, so that all replicas share them. The leader makes and rotates them."""

import base64
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kerf.kube.client import Kube
from kerf.kube.errors import Conflict, KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from kerf.wire.json import Json, at, text_at
from kerf.wire.sessions import KEY_BYTES, key_id

_LOG = logging.getLogger("kerf.page")
SECRET = "kerf-page-key"  # noqa: S105 (its name)
ROTATE_S = 24 * 3600
"""A key signs for so long, and is known for as long again, which is more than a session lasts."""
AHEAD_S = 3600
"""A key that was made so far ahead of this clock is replaced at once: by age it would stay until the clock is there."""
LOOP = Loop(
    "page-key",
    every_s=30.0,
    settle_s=1.0,
    at_once=True,
    first_pause_s=1.0,
    longest_pause_s=30.0,
    expected=(KubeError,),
)
"""Where there is no key yet the next round comes after `settle_s`: until then nobody can sign in."""
NOW, BEFORE, MADE = "current", "previous", "made"


class PageKeys:
    """Every replica's view of the keys; `run` keeps it up to date, and makes keys where `leads` says so."""

    def __init__(
        self, kube: Kube, namespace: str, leads: Callable[[], bool], clock: Callable[[], float] = time.time
    ) -> None:
        self._kube = kube
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace = namespace
        self._leads = leads
        self._clock = clock
        self._keys: tuple[bytes, ...] = ()
        self._again = threading.Event()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The key that signs, then the one before it; none before the Secret was read."""
        return self._keys

    def run(self, stop: threading.Event) -> None:
        """Follow until stopped."""
        run_every(LOOP, self.run_once, stop, self._again)

    def run_once(self) -> None:
        """Read the Secret. The leader makes a key where none is, or the one that signs is old. Raises KubeError."""
        found: Json | None
        try:
            found = self._kube.get(f"{self._path}/{SECRET}")
        except NotFound:
            found = None
        self._keys = _keys_of(found)
        if self._leads() and not (self._keys and -AHEAD_S <= self._clock() - _made(found) < ROTATE_S):
            self._make(found)
        if not self._keys:
            self._again.set()

    def _make(self, before: Json | None) -> None:
        document = self._document(before)
        try:
            if before is None:
                stored = self._kube.create(self._path, document)
            else:
                stored = self._kube.replace(f"{self._path}/{SECRET}", document)
        except Conflict:
            return  # another replica was first: its key is read in the next round
        self._keys = _keys_of(stored)
        _LOG.info("sessions are signed with key %s from now on", key_id(self._keys[0]))

    def _document(self, before: Json | None) -> dict[str, Any]:
        data = {NOW: _text(secrets.token_bytes(KEY_BYTES)), MADE: _text(str(int(self._clock())).encode())}
        if self._keys:
            data[BEFORE] = _text(self._keys[0])
        meta: Mapping[str, Any] = {"name": SECRET, "namespace": self._namespace}
        kept = {**(before or {}), "metadata": at(before, "metadata") or meta, "data": data}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **kept}


class Lonely:
    """The keys of a replica without a namespace to share any in: made at its start, known to it alone."""

    def __init__(self) -> None:
        self.keys = (secrets.token_bytes(KEY_BYTES),)

    def run(self, stop: threading.Event) -> None:
        """Nothing to follow."""


def _keys_of(secret: Json | None) -> tuple[bytes, ...]:
    found = (_bytes(text_at(secret, "data", name)) for name in (NOW, BEFORE))
    return tuple(key for key in found if len(key) == KEY_BYTES)


def _made(secret: Json | None) -> int:
    text = _bytes(text_at(secret, "data", MADE))
    return int(text) if text.isdigit() and len(text) < 16 else 0


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
