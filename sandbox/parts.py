"""The table of parts: their names, the Go packages that build them, and the installed versions that are accepted."""

from dataclasses import dataclass

KUBERNETES = "v1.36.3"
_COMPONENT_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class Patch:
    """One source file of a required module, by import path, and our file that replaces it."""

    theirs: str
    ours: str


@dataclass(frozen=True, slots=True)
class Group:
    """Parts that share one ``go.mod``, in `directory` below this package."""

    name: str
    directory: str
    cgo: bool = False
    tags: str = ""
    ldflags: str = ""
    patch: Patch | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """The versions on PATH that are accepted: ``at_least <= version < below``."""

    at_least: tuple[int, int]
    below: tuple[int, int]
    arguments: tuple[str, ...] = ("--version",)


@dataclass(frozen=True, slots=True)
class Part:
    """One program.

    `seconds` is what its build adds, with a cold Go cache on two cores, to the builds above it in its group.
    `installed` is None if the name on PATH may be a different program. `variable` names an environment variable with
    the program's path.
    """

    name: str
    group: str
    package: str
    seconds: float
    installed: Installed | None = None
    variable: str | None = None


GROUPS = {
    group.name: group
    for group in (
        Group(
            "kubernetes",
            "parts/kubernetes",
            ldflags=(
                f"-X {_COMPONENT_VERSION}.gitVersion={KUBERNETES}"
                f" -X {_COMPONENT_VERSION}.gitMajor=1 -X {_COMPONENT_VERSION}.gitMinor=36"
            ),
        ),
        Group("etcd", "parts/etcd"),
        Group("containerd", "parts/containerd", tags="no_btrfs,no_devmapper,no_zfs"),
        Group(
            "runc",
            "parts/runc",
            cgo=True,  # its first steps in a container are C; without the seccomp tag they need no library
            patch=Patch(
                theirs="github.com/opencontainers/runc/libcontainer/seccomp/seccomp_unsupported.go",
                ours="seccomp/ignored.go",
            ),
        ),
        Group("cni", "parts/cni"),
        Group("kwok", "parts/kwok"),
        Group("helm", "parts/helm"),
        Group("kueue", "parts/kueue"),
        Group("sleeper", "images/sleeper"),
        Group("allocator", "parts/allocator"),
        Group("promql", "parts/promql"),
    )
}

_K8S = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
_SAME_MINOR = Installed(at_least=(1, 36), below=(1, 37))  # a kubelet must not be newer than its API server

PARTS = {
    part.name: part
    for part in (
        Part("kube-apiserver", "kubernetes", f"{_K8S}/kube-apiserver", 190, _SAME_MINOR),
        Part("kube-controller-manager", "kubernetes", f"{_K8S}/kube-controller-manager", 40, _SAME_MINOR),
        Part("kube-scheduler", "kubernetes", f"{_K8S}/kube-scheduler", 16, _SAME_MINOR),
        Part("kubelet", "kubernetes", f"{_K8S}/kubelet", 50, _SAME_MINOR),
        Part(
            "kubectl",
            "kubernetes",
            f"{_K8S}/kubectl",
            25,
            Installed((1, 35), (1, 38), ("version", "--client", "--output=yaml")),
        ),
        Part("etcd", "etcd", "go.etcd.io/etcd/server/v3", 26, Installed((3, 6), (4, 0))),
        Part("containerd", "containerd", f"{_CONTAINERD}/containerd", 45, Installed((2, 1), (3, 0))),
        Part(
            "containerd-shim-runc-v2",
            "containerd",
            f"{_CONTAINERD}/containerd-shim-runc-v2",
            6,
            Installed((2, 1), (3, 0), ("-v",)),
        ),
        Part("ctr", "containerd", f"{_CONTAINERD}/ctr", 6, Installed((2, 1), (3, 0))),
        Part("runc", "runc", "github.com/opencontainers/runc", 15, Installed((1, 1), (2, 0))),
        Part("bridge", "cni", f"{_CNI}/main/bridge", 3),
        Part("loopback", "cni", f"{_CNI}/main/loopback", 1),
        Part("host-local", "cni", f"{_CNI}/ipam/host-local", 1),
        Part("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 65, Installed((0, 8), (0, 9))),
        Part("helm", "helm", "helm.sh/helm/v4/cmd/helm", 250, Installed((4, 0), (5, 0), ("version", "--short"))),
        Part("kueue", "kueue", "sigs.k8s.io/kueue/cmd/kueue", 600, variable="KUEUE_BIN"),
        Part("sleeper", "sleeper", "kerf.dev/sandbox/sleeper", 2),
        Part("allocator", "allocator", "kerf.dev/sandbox/allocator", 100),
        Part("promql", "promql", "kerf.dev/sandbox/promql", 60),
    )
}

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = (
    "kubelet",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "bridge",
    "loopback",
    "host-local",
    "sleeper",
)
