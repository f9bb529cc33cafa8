"""Addresses as people write them."""

from kerf.wire.errors import WireError


def parse_bind(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT` or `:PORT` (every address). Raises WireError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise WireError("--bind", text, "write HOST:PORT, for example 127.0.0.1:8443")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 (what ":PORT" means)
