"""Addresses on the PCI bus, as everybody writes them, in one form: `0000:5d:00`, lower case, the domain first."""

import re

PATTERN = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2,4}:[0-9a-f]{2}(?:\.[0-9a-f])?"
"""An address within a text, upper or lower case: with or without domain and function."""
_WHOLE = re.compile(PATTERN, re.IGNORECASE)


def parse_bus(text: str) -> str:
    """The address without its function; empty if the text is no address.

    NVML writes domains of eight digits (`00000000:5D:00.0`), and old drivers write none (`005d:00`).
    """
    if not _WHOLE.fullmatch(text):
        return ""
    *domain, bus, device = text.partition(".")[0].split(":")
    return f"{int(domain[0], 16) if domain else 0:04x}:{int(bus, 16):02x}:{device.lower()}"
