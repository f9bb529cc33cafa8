"""What a vendor is: words of the pod contract and of its container runtime, no code."""

from dataclasses import dataclass

QUOTA_DOMAIN = "quota.kerf.dev"
"""Resources of this domain are written by the webhook alone."""


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """A vendor's words in the pod contract: extended resources, annotations and units."""

    vendor: str
    count: str
    memory: str
    memory_percent: str
    cores: str
    priority: str
    use_ids: str
    avoid_ids: str
    use_types: str
    avoid_types: str
    modes: str
    same_numa: str
    mode_words: tuple[tuple[str, str], ...] = ()
    """Words a user may write in the mode annotation and the card mode they mean."""

    @property
    def quota(self) -> tuple[str, str, str]:
        """What the webhook writes for quota: a container's MiB, percent of SMs and cards in all."""
        return (
            f"{QUOTA_DOMAIN}/{self.vendor}-mib",
            f"{QUOTA_DOMAIN}/{self.vendor}-cores",
            f"{QUOTA_DOMAIN}/{self.vendor}-cards",
        )

    @property
    def ignored(self) -> tuple[str, ...]:
        """Resources that only Kerf understands: kube-scheduler and kubelet ignore them."""
        return (self.memory, self.memory_percent, self.cores, self.priority, *self.quota)

    @property
    def all(self) -> tuple[str, ...]:
        """Every resource name in which users ask for this vendor's cards."""
        return (self.count, self.memory, self.memory_percent, self.cores, self.priority)

    @property
    def selection(self) -> tuple[str, ...]:
        """Every annotation in which users choose among this vendor's cards."""
        return (self.use_ids, self.avoid_ids, self.use_types, self.avoid_types, self.modes, self.same_numa)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's words for the pod contract, the container runtime and the state that HAMi leaves behind."""

    name: str
    names: ResourceNames
    cdi_kind: str
    """CDI kind of the node's own specs for whole cards; `<kind>=<card id>` names one."""
    visible_devices: str
    """Environment variable by which the vendor's container runtime brings cards in."""
    hami_register: str
    """Node annotation in which HAMi's device plugin registers cards."""
    hami_allocated: str
    """Pod annotation in which HAMi records what a pod holds."""
