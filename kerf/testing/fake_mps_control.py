#!/usr/bin/env python3
"""A stand-in for nvidia-cuda-mps-control: `-f -M` runs a daemon, no option reads commands, as NVIDIA's program does.

It serves no CUDA. Its pipe directory has `servers` (PIDs, one a line), which a test writes to make clients appear
(`clients`), and `fault`; a file `broken` beside the program makes every start fail. It imports little, because tests
start it some hundred times.
"""

# ruff: noqa: PTH110, PTH120, PTH123 -- pathlib takes longer to import than all that this program does
import os
import signal
import sys
import time

HELP = "OPTIONS:\n  -f,--forground\n  -M,--multiuser-server    Enable multi-user mode\n"
PID = "nvidia-cuda-mps-control.pid"


def read(path: str) -> str:
    """A file's text, empty where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    """Replace a file's text."""
    with open(path, "w") as file:
        file.write(text)


def daemon(pipe: str, log: str) -> int:
    """Run until SIGTERM, or until the program that started it has ended."""
    if os.path.exists(f"{os.path.dirname(os.path.realpath(sys.argv[0]))}/broken"):
        write(f"{log}/control.log", "cannot initialise\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    write(f"{pipe}/cards", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    write(f"{pipe}/{PID}", str(os.getpid()))
    write(f"{pipe}/control", "")
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    return 0


def answer(pipe: str, command: str) -> int:
    """One command's answer."""
    pid = read(f"{pipe}/{PID}")
    if not pid or not os.path.exists(f"/proc/{pid}"):
        print("Cannot find MPS control daemon process", file=sys.stderr)
        return 1
    if command.startswith("quit"):
        os.kill(int(pid), signal.SIGTERM)
    elif command.startswith("get_server_status"):
        print("FAULT" if os.path.exists(f"{pipe}/fault") else "ACTIVE")
    else:
        name = "clients" if command.startswith("get_client_list") else "servers"
        print(read(f"{pipe}/{name}"), end="")
    return 0


def main() -> int:
    """As the options say."""
    if "-h" in sys.argv:
        print(HELP)
        return 0
    pipe, log = (os.environ[f"CUDA_MPS_{part}_DIRECTORY"] for part in ("PIPE", "LOG"))
    return daemon(pipe, log) if "-f" in sys.argv else answer(pipe, sys.stdin.readline().strip())


if __name__ == "__main__":
    sys.exit(main())
