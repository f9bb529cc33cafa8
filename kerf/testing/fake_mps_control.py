#!/usr/bin/env python3
"""A stand-in for nvidia-cuda-mps-control: `-f -M` runs a daemon, no option reads commands, as NVIDIA's program does.

It serves no CUDA. Its pipe directory has `servers` (PIDs, one a line), which a test writes to make clients appear
(`clients`), and `fault`; a file `broken` beside the program makes every start fail.
"""

import os
import signal
import sys
import time
from pathlib import Path

HELP = "OPTIONS:\n  -f,--forground\n  -M,--multiuser-server    Enable multi-user mode\n"


def daemon(pipe: Path, log: Path) -> int:
    """Run until SIGTERM, or until the program that started it has ended."""
    if (Path(sys.argv[0]).resolve().parent / "broken").exists():
        (log / "control.log").write_text("cannot initialise\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (pipe / "cards").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    (pipe / "nvidia-cuda-mps-control.pid").write_text(str(os.getpid()))
    (pipe / "control").write_text("")
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    return 0


def answer(pipe: Path, command: str) -> int:
    """One command's answer."""
    pid_file = pipe / "nvidia-cuda-mps-control.pid"
    if not pid_file.exists() or not Path(f"/proc/{pid_file.read_text()}").exists():
        print("Cannot find MPS control daemon process", file=sys.stderr)
        return 1
    if command.startswith("quit"):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    elif command.startswith("get_server_status"):
        print("FAULT" if (pipe / "fault").exists() else "ACTIVE")
    else:
        name = "clients" if command.startswith("get_client_list") else "servers"
        print((pipe / name).read_text() if (pipe / name).exists() else "", end="")
    return 0


def main() -> int:
    """As the options say."""
    if "-h" in sys.argv:
        print(HELP)
        return 0
    pipe, log = (Path(os.environ[f"CUDA_MPS_{part}_DIRECTORY"]) for part in ("PIPE", "LOG"))
    return daemon(pipe, log) if "-f" in sys.argv else answer(pipe, sys.stdin.readline().strip())


if __name__ == "__main__":
    sys.exit(main())
