"""Who hands out a card: Kerf's scheduler by grants, or Kubernetes by claims."""

from enum import StrEnum


class Allocator(StrEnum):
    """One card has one allocator at a time, and changes it only while nothing holds it."""

    EXTENDER = "extender"
    """Kerf's scheduler, for pods that ask by extended resources."""
    DRA = "dra"
    """kube-scheduler, for pods that ask by ResourceClaims of the driver gpu.kerf.dev."""
    NONE = "none"
    """The card changes hands: neither offers it until both have seen so."""
