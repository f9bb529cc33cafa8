"""The host's cgroup tree: where the kubelet keeps a pod's processes."""

import re
from pathlib import Path

ROOT = "/sys/fs/cgroup"
_PARENTS = re.compile(r"^(kubelet|kubepods|.*-kubepods|(kubepods-|.*-kubepods-)?(besteffort|burstable))(\.slice)?$")
"""Names above a pod's cgroup, by both of the kubelet's cgroup drivers and with a root of its own, as in kind."""
_DEEPEST = 5


def problem(root: Path) -> str:
    """Why limits for pods cannot be kept below `root`; empty where they can."""
    if not (root / "cgroup.controllers").exists():
        return f"{root} is no cgroup v2: mount the host's there, and name the directory that holds kubepods"
    if not any(_PARENTS.match(each.name) for each in _folders(root)):
        return f"{root} has no kubepods: name the directory that holds it (--cgroup-root)"
    return ""


def pod_cgroup(root: Path, uid: str) -> Path | None:
    """The cgroup of a pod, None where the kubelet has made none (yet)."""
    endings = {f"pod{uid}", f"pod{uid.replace('-', '_')}.slice"}
    level = [root]
    for _ in range(_DEEPEST):
        found = [each for place in level for each in _folders(place)]
        mine = next((each for each in found if _ending(each.name) in endings), None)
        if mine is not None:
            return mine
        level = [each for each in found if _PARENTS.match(each.name)]
    return None


def _ending(name: str) -> str:
    """`pod<uid>…` of kubepods-burstable-pod<uid>.slice and of pod<uid>; the uid itself may have dashes."""
    return name if name.startswith("pod") else f"pod{name.partition('-pod')[2]}"


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(each for each in place.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return []
