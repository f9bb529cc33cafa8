"""The composition root of the supervisor: settings, objects, one loop."""

import logging
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deviceplugin.mps.control import Control
from deviceplugin.mps.supervisor import Supervisor
from kerf.config.load import load_settings, setting
from kerf.obs.log import start_logging
from kerf.obs.loop import Loop, run_every

_LOG = logging.getLogger("kerf.mps")
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the supervisor runs."""

    state_dir: str = setting("/var/run/kerf", "the device plugin's state directory, as a path on the host")
    control: str = setting("nvidia-cuda-mps-control", "NVIDIA's control daemon: a name on the PATH, or a file")
    log_level: str = setting("info", "debug, info, warning or error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = load_settings(Settings, argv, program="python -m deviceplugin.mps", about="Kerf's MPS supervisor")
    start_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    os.umask(0o022)
    supervisor = Supervisor(Path(settings.state_dir) / "mps", Control(settings.control))
    try:
        supervisor.prepare()
    except OSError as error:
        _LOG.error("%s", error)
        return 1
    run_every(Loop("mps", LOOK_S, at_once=True, expected=(OSError,)), supervisor.run_once, stop)
    supervisor.end()
    return 0
