"""A pod's cgroup by its uid, as both of the kubelet's drivers name it."""

from pathlib import Path

import pytest

from kerf.probes.cgroups import pod_cgroup, problem

UID = "0f6c2a3e-1b2c-4d5e-8f90-a1b2c3d4e5f6"
FLAT = UID.replace("-", "_")


@pytest.mark.parametrize(
    "path",
    [
        f"kubepods/pod{UID}",
        f"kubepods/burstable/pod{UID}",
        f"kubepods.slice/kubepods-pod{FLAT}.slice",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{FLAT}.slice",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{FLAT}.slice",
        f"kubelet/kubepods/besteffort/pod{UID}",
    ],
)
def test_it_is_found_wherever_the_kubelet_makes_it(tmp_path: Path, path: str):
    (tmp_path / path / "cri-containerd-abc.scope").mkdir(parents=True)
    (tmp_path / "system.slice" / f"kubepods-pod{FLAT}.slice").mkdir(parents=True)

    assert pod_cgroup(tmp_path, UID) == tmp_path / path


def test_a_pod_that_has_none_and_a_uid_that_begins_alike_are_not_found(tmp_path: Path):
    (tmp_path / f"kubepods/burstable/pod{UID}0").mkdir(parents=True)

    assert pod_cgroup(tmp_path, UID) is None
    assert pod_cgroup(tmp_path / "nothing", UID) is None


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kubepods").mkdir()
    (tmp_path / f"kubepods/pod{UID}").symlink_to(tmp_path / "elsewhere")

    assert pod_cgroup(tmp_path, UID) is None


def test_a_place_that_is_no_root_of_pods_says_what_to_name(tmp_path: Path):
    assert "is no cgroup v2" in problem(tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    assert problem(tmp_path) == f"{tmp_path} has no kubepods: name the directory that holds it (--cgroup-root)"
    (tmp_path / "kubepods.slice").mkdir()
    assert problem(tmp_path) == ""
