"""NVIDIA: the words of HAMi's pod contract (its defaults), the limiter, the container runtime and XID errors."""

from kerf.faults.xid import XIDS
from kerf.values.device import MODE_WORDS, Card, Mode
from kerf.values.grant import Slice
from kerf.values.injection import INSIDE, LIBRARY, Injection, Mount, NodeFiles, Terms
from kerf.values.slicing import ANY_SIZE, ONE_CARD_EACH, NotSliced, Slicing
from kerf.values.vendor import INVENTORY, ResourceNames, Vendor

LEDGER = f"{INSIDE}/ledger"
PRELOAD = "/etc/ld.so.preload"
MPS_PIPES = f"{INSIDE}/mps"
_UNSLICED = {
    Mode.MIG: NotSliced(
        "the card is in MIG mode and its device plugin publishes no MIG profiles: use a driver that lists them by "
        "name (R510 or newer) and this version's device plugin"
    ),
    Mode.MPS: NotSliced(
        "the card is shared through MPS, which Kerf does not control: serve it with Kerf's device plugin, in a pool of "
        "mode preload or mps"
    ),
}

_UNIFIED = NotSliced(
    "the driver reports no memory of the card's own (it shares the host's): say how much Kerf may give by the device "
    "plugin's --unified-memory-mib"
)


def slicing_of(card: Card) -> Slicing:
    """Any size, kept by the limiter, on cards that Kerf shares, through MPS or without; instances in MIG mode."""
    if card.mode is Mode.MIG and card.mig is not None:
        return card.mig.slicing
    if not card.memory_mib:
        return _UNIFIED
    if card.mode is Mode.MPS and card.backend.through_mps:
        return ANY_SIZE if card.joint else ONE_CARD_EACH
    return _UNSLICED.get(card.mode, ANY_SIZE)


def inject(slices: tuple[Slice, ...], files: NodeFiles, terms: Terms) -> Injection:
    """The runtime's variable where the node's CDI specs do not cover every card, HAMi's names, and the limiter."""
    if all(files.name_of(piece) != piece.card for piece in slices):
        return _on_instances(slices, files, terms)
    through_mps = dict(files.mps)
    arbiters = {card: path for card, path in files.arbiters if card not in through_mps}
    specs = dict(files.specs)
    env = [("CUDA_DEVICE_MEMORY_LIMIT_" + str(i), f"{s.memory_mib}m") for i, s in enumerate(slices)]
    env += [("CUDA_DEVICE_SM_LIMIT", str(slices[0].cores)), ("KERF_LEDGER", LEDGER)]
    if terms.privileged:  # it sees every card of the node; CUDA numbers those that are named here, in this order
        env.append(("CUDA_VISIBLE_DEVICES", ",".join(s.card for s in slices)))
    if any(s.card not in specs for s in slices):
        env.insert(0, ("NVIDIA_VISIBLE_DEVICES", ",".join(s.card for s in slices)))
    more_env, more_mounts = _mps(slices, files, terms)
    env += more_env
    mounts = [Mount(files.ledger, LEDGER, read_only=False), *more_mounts]
    mounts += [
        Mount(arbiters[s.card], f"{INSIDE}/arbiter-{i}", read_only=False)
        for i, s in enumerate(slices)
        if s.card in arbiters
    ]
    if files.limiter and terms.limited:
        mounts += [Mount(files.limiter, LIBRARY), Mount(files.preload, PRELOAD)]
    return Injection(tuple(env), tuple(mounts))


def _mps(slices: tuple[Slice, ...], files: NodeFiles, terms: Terms) -> tuple[list[tuple[str, str]], list[Mount]]:
    """What makes a container's programs clients of its cards' MPS daemon, with their share of SMs and memory.

    The memory limit is one for each process; the ledger, which counts all of them together, stays the container's.
    """
    pipes = sorted(set(dict(files.mps).values()))
    if not pipes:
        return [], []
    memory = ",".join(f"{s.card}={s.memory_mib}M" for s in slices)
    env = [("CUDA_MPS_PIPE_DIRECTORY", MPS_PIPES), ("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", memory)]
    cores = min((s.cores for s in slices if s.cores), default=0)
    if cores:
        env.append(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", str(cores)))
    if terms.policy == "priority" and terms.priority:
        env.append(("CUDA_MPS_CLIENT_PRIORITY", "1"))
    return env, [Mount(pipes[0], MPS_PIPES)]


def _on_instances(slices: tuple[Slice, ...], files: NodeFiles, terms: Terms) -> Injection:
    """MIG instances by their UUIDs. The hardware keeps them, so no limiter is loaded and no ledger is mounted."""
    names = ",".join(map(files.name_of, slices))
    covered = all(files.name_of(piece) in dict(files.specs) for piece in slices)
    env = [] if covered else [("NVIDIA_VISIBLE_DEVICES", names)]
    if terms.privileged:
        env.append(("CUDA_VISIBLE_DEVICES", names))
    return Injection(tuple(env))


VENDOR = Vendor(
    name="nvidia",
    words=ResourceNames(
        vendor="nvidia",
        count="nvidia.com/gpu",
        memory="nvidia.com/gpumem",
        memory_percent="nvidia.com/gpumem-percentage",
        cores="nvidia.com/gpucores",
        priority="nvidia.com/priority",
        use_ids="nvidia.com/use-gpuuuid",
        avoid_ids="nvidia.com/nouse-gpuuuid",
        use_types="nvidia.com/use-gputype",
        avoid_types="nvidia.com/nouse-gputype",
        modes="nvidia.com/vgpu-mode",
        same_numa="nvidia.com/numa-bind",
        mode_words=(("hami-core", Mode.SHARED.value), *MODE_WORDS),
        priority_env="CUDA_TASK_PRIORITY",
        opt_out_env="CUDA_DISABLE_CONTROL",
        open_env="NVIDIA_VISIBLE_DEVICES",
        others=("nvidia.com/mig-*", "nvidia.com/gpu.shared", "nvidia.com/pgpu", "nvidia.com/hostdev"),
    ),
    cdi_kind="nvidia.com/gpu",
    hami_register="hami.io/node-nvidia-register",
    hami_allocated="hami.io/vgpu-devices-allocated",
    slicing_of=slicing_of,
    inject=inject,
    faults=XIDS,
    card_labels=("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present"),
    probe="nvml",
    mps_env=(("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),),  # the programs of MPS are among the compute files
    inventory_key=INVENTORY,
)
