"""What one node leaves on the machine, and its removal: a module and a script, standard library only.

Containers and their shims are not our children and outlive containerd by design. We identify them by their control
group, named after the run, and signal nothing else.

As a script (``python -I -S reap.py RUN_DIR GROUP BRIDGE KUBELET_ROOT KUBELET_HOME``) it is the node's keeper. It makes
a mount namespace in which KUBELET_ROOT is at KUBELET_HOME, says "ready", and waits until its standard input ends,
because the node is stopped or because the process at the other end was killed. Then it removes the footprint.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
SIOCBRADDBR, SIOCBRDELBR = 0x89A0, 0x89A1
SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1


@dataclass(frozen=True)
class Footprint:
    """Everything that a node puts outside its own processes: mounts below `run_dir`, control groups, one bridge."""

    run_dir: Path
    group: str
    """Name of a directory in every cgroup hierarchy."""
    bridge: str


def hierarchies() -> tuple[Path, ...]:
    """The mount points of the cgroup hierarchies, version 1 and 2."""
    mounts = (line.split(" - ") for line in _mountinfo())
    return tuple(Path(left.split()[4]) for left, right in mounts if right.split()[0] in {"cgroup", "cgroup2"})


def process_group_file(group: str) -> Path:
    """The ``cgroup.procs`` that the node's own daemons join: in ``pids`` with version 1, else in version 2."""
    roots = hierarchies()
    root = next((root for root in roots if root.name == "pids"), roots[-1])
    return root / group / "daemons" / "cgroup.procs"


def create_groups(group: str) -> None:
    """Make the control group, and below it the one for the node's daemons. Raises OSError."""
    for root in hierarchies():
        enable_controllers(root)
        for path in (root / group, root / group / "daemons"):
            path.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 refuses processes until both are set
                parent = path.parent / name
                if (root / "cgroup.sane_behavior").exists() and parent.exists():
                    (path / name).write_text(parent.read_text())


def enable_controllers(root: Path) -> None:
    """With version 2, give groups below `root` every controller of `root`; the kubelet requires that."""
    controllers, delegated = root / "cgroup.controllers", root / "cgroup.subtree_control"
    if controllers.exists() and (missing := set(controllers.read_text().split()) - set(delegated.read_text().split())):
        delegated.write_text(" ".join(f"+{name}" for name in sorted(missing)))


def create_bridge(name: str, address: str, netmask: str) -> None:
    """Make a network bridge with an address and bring it up. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCBRADDBR, name.encode() + b"\0")
        fcntl.ioctl(control, SIOCSIFADDR, _address_request(name, address))
        fcntl.ioctl(control, SIOCSIFNETMASK, _address_request(name, netmask))
        _set_up(control, name, up=True)


def delete_bridge(name: str) -> None:
    """Remove a bridge. No-op if it does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control, suppress(OSError):
        _set_up(control, name, up=False)
        fcntl.ioctl(control, SIOCBRDELBR, name.encode() + b"\0")


def separate_mounts(kubelet_root: Path, kubelet_home: Path) -> None:
    """Move this process into a mount namespace in which `kubelet_root` is at `kubelet_home`. Raises OSError.

    The namespace ends with its last process, and every mount in it. Nothing in it reaches the machine's own mounts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kubelet_home.mkdir(parents=True, exist_ok=True)
    _require(libc.unshare(CLONE_NEWNS), "no mount namespace of its own")
    _require(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "cannot separate its mounts")
    source, target = os.fsencode(kubelet_root), os.fsencode(kubelet_home)
    _require(libc.mount(source, target, None, MS_BIND, None), f"cannot bind {kubelet_root} to {kubelet_home}")


def _require(failed: int, what: str) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def remove(footprint: Footprint, seconds: float = 20.0) -> None:
    """Kill the control group's processes, unmount the rest, remove the groups and the bridge."""
    deadline = time.monotonic() + seconds
    while (pids := _pids(footprint.group)) and time.monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    _unmount_below(footprint.run_dir)
    _unlink_strays(footprint.run_dir)
    for root in hierarchies():
        for path in sorted((root / footprint.group).rglob("*/"), reverse=True):
            _remove_group(path)
        _remove_group(root / footprint.group)
    delete_bridge(footprint.bridge)


def _pids(group: str) -> set[int]:
    found: set[int] = set()
    for root in hierarchies():
        for procs in (root / group).rglob("cgroup.procs"):
            with suppress(OSError):  # a group that disappears meanwhile is an empty group
                found.update(int(pid) for pid in procs.read_text().split())
    return found - {0, os.getpid()}


def _remove_group(path: Path) -> None:
    for _ in range(400):  # the kernel takes a moment to release killed processes, and seconds on a busy machine
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return


def _unmount_below(directory: Path) -> None:
    libc = ctypes.CDLL(None)
    points = [line.split()[4].encode().decode("unicode_escape") for line in _mountinfo()]
    for point in reversed(points):  # mountinfo is in mount order: the last one is on top
        if Path(point).is_relative_to(directory):
            libc.umount2(os.fsencode(point), MNT_DETACH)


def _unlink_strays(run_dir: Path) -> None:
    """Files that containerd and the kubelet keep elsewhere: the shims' sockets, and links to the containers' logs."""
    for shim in run_dir.glob("containerd-state/io.containerd.runtime.v2.task/*/*/bootstrap.json"):
        Path(json.loads(shim.read_text())["address"].removeprefix("unix://")).unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(run_dir):
            link.unlink()


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _address_request(name: str, address: str) -> bytes:
    return struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, socket.inet_aton(address))


def _set_up(control: socket.socket, name: str, *, up: bool) -> None:
    request = struct.pack("16sh14x", name.encode(), 0)
    (flags,) = struct.unpack_from("16xh", fcntl.ioctl(control, SIOCGIFFLAGS, request))
    flags = flags | IFF_UP if up else flags & ~IFF_UP
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags))


def main(footprint: Footprint, kubelet_root: Path, kubelet_home: Path) -> None:
    """Keep the node's mount namespace until standard input ends, then remove what the node has left."""
    try:
        separate_mounts(kubelet_root, kubelet_home)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    print("ready", flush=True)
    sys.stdin.read()
    remove(footprint)


if __name__ == "__main__":
    main(Footprint(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
