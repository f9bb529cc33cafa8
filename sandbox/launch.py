"""Start one process that dies with its parent: a script on the standard library alone, run by path.

``python -I -S launch.py PARENT_PID CGROUP_PROCS_FILE|- MOUNT_NAMESPACE|- PROGRAM [ARGUMENT…]`` asks the kernel for
SIGKILL on the death of the parent, joins control group and mount namespace, then becomes PROGRAM with the same pid.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x00020000


def main(parent: int, group_file: str, namespace: str, argv: list[str]) -> None:
    """Become `argv`, or exit with 127 and one line on standard error."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the kernel had the request
        sys.exit(0)
    if group_file != "-":
        with open(group_file, "w") as group:  # noqa: PTH123 (pathlib doubles the start-up time)
            group.write(str(os.getpid()))
    if namespace != "-":
        with open(namespace) as mounts:  # noqa: PTH123
            if libc.setns(mounts.fileno(), CLONE_NEWNS):
                sys.exit(f"cannot join {namespace}: {os.strerror(ctypes.get_errno())}")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is the point)
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
