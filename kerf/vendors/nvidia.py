"""NVIDIA: the words of HAMi's pod contract (its defaults) and of the container runtime."""

from kerf.values.vendor import ResourceNames, Vendor

VENDOR = Vendor(
    name="nvidia",
    names=ResourceNames(
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
        mode_words=(("hami-core", "shared"), ("shared", "shared"), ("mig", "mig"), ("mps", "mps")),
    ),
    cdi_kind="nvidia.com/gpu",
    visible_devices="NVIDIA_VISIBLE_DEVICES",
    hami_register="hami.io/node-nvidia-register",
    hami_allocated="hami.io/vgpu-devices-allocated",
)
