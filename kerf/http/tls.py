"""TLS for Kerf's servers: 1.2 or newer, certificates swapped while they serve, from files or from memory."""

import logging
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from kerf.wire.errors import WireError

if TYPE_CHECKING:  # 8 MB of cryptography that a server with files does not need
    from kerf.http.pki import KeyPair

_LOG = logging.getLogger("kerf.tls")


def server_context(cert: str | None, key: str | None, client_ca: str | None = None) -> ssl.SSLContext | None:
    """A server's TLS context, None for plain HTTP. Raises WireError for half a pair or one that cannot be read.

    With `client_ca` a client may show a certificate of that authority; the server says what one without may do.
    """
    if not cert and not key:
        if client_ca:
            raise WireError("--client-ca", client_ca, "give --tls-cert and --tls-key too: certificates need TLS")
        return None
    if not cert or not key:
        raise WireError("--tls-cert, --tls-key", cert or key, "give both files, or neither")
    rotation = _Rotation(Path(cert), Path(key), Path(client_ca) if client_ca else None)
    context = rotation.current
    # Called in every handshake, with or without a server name: the cheap moment to notice a rotated certificate.
    context.sni_callback = rotation.choose
    return context


def peer_context(ca: str | None) -> ssl.SSLContext:
    """A client's TLS context towards other replicas, which are reached by address: the CA counts, names do not."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise WireError("--peer-ca", str(ca), f"name a readable PEM file ({error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    return context


class PeerTls:
    """A client's TLS context towards replicas, with a certificate of its own; made again when a file of it changes."""

    def __init__(self, ca: str, cert: str, key: str) -> None:
        self._files = tuple(map(Path, (ca, cert, key)))
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """The context of the files as they are, or as they were last readable. Raises ValueError before that."""
        stamp = tuple(_stamp(path) for path in self._files)
        if stamp != self._stamp:
            ca, cert, key = map(str, self._files)
            try:
                context = peer_context(ca)
                context.load_cert_chain(cert, key, password=_no_password)
                self._context, self._stamp = context, stamp
            except (OSError, WireError) as error:
                if self._context is None:
                    raise ValueError(f"the certificate for the scheduler cannot be read: {error}") from error
                self._stamp = stamp
                _LOG.warning("certificate not reloaded, the old one stays: %s: %s", cert, error)
        assert self._context is not None
        return self._context


class LiveContext:
    """A server's TLS context whose certificate is kept in memory and swapped; it begins with `pair`."""

    def __init__(self, pair: "KeyPair") -> None:
        self._current = _load_from_memory(pair)
        self.context = _load_from_memory(pair)
        self.context.sni_callback = self._choose

    def adopt(self, pair: "KeyPair") -> None:
        """Serve another pair from the next handshake on. Raises ValueError, and keeps the old one."""
        try:
            self._current = _load_from_memory(pair)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"the pair cannot be served: {error}") from error

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


class _Rotation:
    """The newest pair that could be read.

    Connections are handed a whole new context: loading into a live one drops its key before the new pair is checked,
    so a half-written pair would end the service.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (cert, key, *((client_ca,) if client_ca else ()))
        self._stamp = self._state()
        try:
            self.current = self._load()
        except (OSError, ssl.SSLError) as error:
            named = "--tls-cert, --tls-key" + (", --client-ca" if client_ca else "")
            words = f"name a readable pair ({error})"
            raise WireError(named, " ".join(map(str, self._files)), words) from error

    def choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a connection in its handshake the newest pair."""
        stamp = self._state()
        if stamp != self._stamp:
            self._stamp = stamp
            self._reload()
        connection.context = self.current

    def _reload(self) -> None:
        try:
            self.current = self._load()
        except (OSError, ssl.SSLError) as error:
            _LOG.warning("certificate not reloaded, the old one stays: %s: %s", self._files[0], error)
        else:
            _LOG.info("certificate reloaded: %s", self._files[0])

    def _load(self) -> ssl.SSLContext:
        context = _load(*self._files[:2])
        for authority in self._files[2:]:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(path) for path in self._files)


def _load(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key, password=_no_password)
    return context


def _load_from_memory(pair: "KeyPair") -> ssl.SSLContext:
    """`ssl` reads files alone; this one is nameless memory, so that the key is never on a disk."""
    handle = os.memfd_create("tls")
    try:
        os.write(handle, pair.key + b"\n" + pair.certificate)
        file = Path(f"/proc/self/fd/{handle}")
        return _load(file, file)
    finally:
        os.close(handle)


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted: write it without a password")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()  # follows links: a mounted Secret is a link that is swapped
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
