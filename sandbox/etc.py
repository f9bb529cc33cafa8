"""Run one program with a directory of ours as its /etc: a script on the standard library alone, run by path.

``python -I -S etc.py DIRECTORY PROGRAM [ARGUMENT…]`` binds DIRECTORY over /etc in its own mount namespace, then becomes
PROGRAM with the same pid. The machine's own /etc does not change, so several such programs, each with other files at
the same path, run side by side. Without root it also creates a user namespace.
"""

import ctypes
import os
import sys

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def main(directory: str, argv: list[str]) -> None:
    """Become `argv`, or exit with one line on standard error."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    _check(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)), "no mount namespace of its own")
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "cannot make the mounts private")
    _check(libc.mount(os.fsencode(directory), b"/etc", None, MS_BIND, None), f"cannot bind {directory} over /etc")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is the point)
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 (pathlib doubles the start-up time)
        file.write(text)


def _check(failed: int, what: str) -> None:
    if failed:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
