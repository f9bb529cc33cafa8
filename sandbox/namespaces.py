"""Try to create what every pod needs: mount and network namespaces and a bridge. A script, run by path.

Standard library only. Exits with 0, or with the kernel's error number.
"""

import ctypes
import fcntl
import socket
import sys

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
SIOCBRADDBR = 0x89A0


def main() -> int:
    """Move this process into its own namespaces, so that the bridge disappears with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET):
        return ctypes.get_errno()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, SIOCBRADDBR, b"kerf-probe\0")
    except OSError as error:
        return error.errno or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
