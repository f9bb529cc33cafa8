"""TLS for Kerf's servers: 1.2 or newer, certificates read again when their files change."""

import ssl
from pathlib import Path

from kerf.wire.errors import WireError


def server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """A server's TLS context, None for plain HTTP. Raises WireError where the pair is incomplete or unreadable."""
    if not cert and not key:
        return None
    if not cert or not key:
        raise WireError("--tls-cert, --tls-key", cert or key, "give both files, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    rotation = _Rotation(context, cert, key)
    rotation.load()
    # Called for every handshake: the cheap moment to notice a rotated certificate.
    context.sni_callback = lambda *_: rotation.refresh()
    return context


class _Rotation:
    def __init__(self, context: ssl.SSLContext, cert: str, key: str) -> None:
        self._context = context
        self._files = (cert, key)
        self._stamp: tuple[int, ...] = ()

    def load(self) -> None:
        try:
            self._context.load_cert_chain(*self._files)
            self._stamp = self._state()
        except (OSError, ssl.SSLError) as error:
            raise WireError(
                "--tls-cert, --tls-key", " ".join(self._files), f"name a readable pair ({error})"
            ) from error

    def refresh(self) -> None:
        try:
            if self._state() != self._stamp:
                self.load()
        except (OSError, WireError):
            return  # half-written: the old pair still serves, the next handshake looks again

    def _state(self) -> tuple[int, ...]:
        return tuple(Path(name).stat().st_mtime_ns for name in self._files)
