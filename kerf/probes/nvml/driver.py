"""NVML itself: loading, starting, restarting, and calls whose failure is counted instead of raised."""

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

_LOG = logging.getLogger("kerf.probes.nvml")
T = TypeVar("T")


class Driver:
    """`pynvml` as `nvml`. Functions are looked up in the driver when called, so an old driver fails then."""

    def __init__(self, nvml: ModuleType | None = None) -> None:
        self.nvml: Any = nvml if nvml is not None else _library()
        self.errors = 0
        self.events: Any = None
        """The event set, None if there is none."""
        self.started = False
        self.version = ""
        """Of the driver, empty where it does not say."""

    def start(self) -> bool:
        """Start NVML if it is not running. False without a driver."""
        if self.started:
            return True
        if self.nvml is None:
            self.errors += 1
            return False
        try:
            self.nvml.nvmlInit()
        except self.nvml.NVMLError as error:
            self.failed("start NVML (is the driver loaded and mounted?)", error)
            return False
        self.started = True
        self.version = self.optional(lambda: text(self.nvml.nvmlSystemGetDriverVersion()), "")
        self.events = self.attempt("create an event set", self.nvml.nvmlEventSetCreate, None)
        return True

    def stop(self) -> None:
        """Stop NVML. All handles and the event set become invalid."""
        if self.started:
            self.started, self.events = False, None
            self.attempt("shut NVML down", self.nvml.nvmlShutdown, None)

    def attempt(self, what: str, call: Callable[[], T], default: T) -> T:
        """The call's result. A failure is logged and counted, and the result is `default`."""
        try:
            return call()
        except self.nvml.NVMLError as error:
            self.failed(what, error)
            return default

    def optional(self, call: Callable[[], T], default: T) -> T:
        """The result of a call that many cards and drivers do not support, `default` if it fails."""
        try:
            return call()
        except self.nvml.NVMLError:
            return default

    def failed(self, what: str, error: Exception) -> None:
        """Log and count a failure."""
        self.errors += 1
        _LOG.error("cannot %s: %s", what, error)


def text(value: str | bytes) -> str:
    """A text as NVML returns it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError as error:  # pragma: no cover (a broken installation)
        _LOG.error("cannot import pynvml: %s", error)
        return None
    found: ModuleType = pynvml
    return found
