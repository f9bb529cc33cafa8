"""Addresses as people write them."""

from kerf.wire.errors import WireError


def parse_bind(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT` or `:PORT` (every address of IPv4 and IPv6, an empty host). Raises WireError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise WireError("--bind", text, "write HOST:PORT, for example 127.0.0.1:8443")
    return host.removeprefix("[").removesuffix("]"), int(port)
