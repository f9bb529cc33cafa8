"""The fake control daemon as a program."""

import sys
from pathlib import Path

from kerf.testing import fake_mps_control


def a_program(folder: Path) -> Path:
    """A program that is started as NVIDIA's is."""
    program = folder / "nvidia-cuda-mps-control"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {folder / "fake.py"} "$@"\n')
    (folder / "fake.py").write_text(Path(fake_mps_control.__file__).read_text())
    program.chmod(0o755)
    return program
