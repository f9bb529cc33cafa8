"""TLS whose certificate is read again when its files change."""

import logging
import ssl
from pathlib import Path

log = logging.getLogger("webhook.tls")


class Certificate:
    """A server's SSL context that follows its certificate and key files.

    New connections are handed the newest pair that could be read; a pair that cannot (half-written, key of another
    certificate) is reported and the old one stays. `look` is cheap and meant to be called every few seconds.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._stamp = self._state()
        self._current = self._load()
        self.context = self._load()
        # Swapping the whole context is atomic; loading into a live one could leave a certificate without its key.
        self.context.sni_callback = self._newest

    def look(self) -> bool | None:
        """Read the files again if they changed: None when they did not, whether it worked when they did."""
        stamp = self._state()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate not reloaded, the old one stays: %s: %s", self._cert, error)
            return False
        log.info("certificate reloaded: %s", self._cert)
        return True

    def _newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._cert, self._key, password=_no_password)
        return context

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(path) for path in (self._cert, self._key))


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted: write it without a password")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()  # follows links: a mounted Secret is a link that is swapped
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
