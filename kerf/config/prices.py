"""The price list as a file: the shipped one, or one of yours that is read again when it changes."""

import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import yaml

from kerf.obs.loop import Loop, run_every
from kerf.pricing.document import parse_prices
from kerf.pricing.prices import PriceList
from kerf.wire.errors import WireError

LARGEST_FILE = 1 << 20
SHIPPED = "kerf/pricing/prices.yaml"


def read_prices(path: str | None) -> PriceList:
    """The list in a YAML file, the shipped one when None. Raises WireError with the file's name."""
    where = path or SHIPPED
    try:
        text = Path(path).read_text(encoding="utf-8") if path else _shipped()
        if len(text) > LARGEST_FILE:
            raise WireError(where, f"{len(text)} characters", f"write at most {LARGEST_FILE}")
        return parse_prices(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise WireError(where, str(error), "name a readable file") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, WireError):
            raise WireError(f"{where}: {error.field}", error.value, error.fix) from error
        raise WireError(where, str(error).replace("\n", " "), "write YAML") from error


def _shipped() -> str:
    return (files("kerf.pricing") / "prices.yaml").read_text(encoding="utf-8")


class PriceFile:
    """A price list that is read again when it changes; a broken version is reported once, and the old one stays."""

    def __init__(self, path: str | None) -> None:
        self.prices = read_prices(path)
        self._path = path
        self._text = self._read()

    def run(self, stop: threading.Event, broken: Callable[[str], None]) -> None:
        """Check for changes until stopped."""
        if self._path:
            run_every(Loop("prices", 5.0), lambda: self.reload(broken), stop)

    def reload(self, broken: Callable[[str], None]) -> None:
        """Read the file again if its text has changed."""
        text = self._read()
        if text == self._text:
            return
        self._text = text
        try:
            self.prices = read_prices(self._path)
        except WireError as error:
            broken(str(error))

    def _read(self) -> bytes:
        try:
            return Path(self._path).read_bytes() if self._path else b""
        except OSError:
            return b""
