"""Iluvatar's rule for several cards. HAMi 2.10.0: `pkg/device/iluvatar/device.go`, MutateAdmission."""

from dataclasses import replace

from kerf.values.ask import ContainerAsk
from kerf.values.words import Said
from kerf.vendors.build import Special

WORDS = ("MR-V100", "MR-V50", "BI-V150", "BI-V100")


def resolve(ask: ContainerAsk, _said: Said) -> ContainerAsk:
    """Several cards are taken with all of their cores."""
    return replace(ask, cores=100) if ask.cards > 1 else ask


def remarks(ask: ContainerAsk) -> str:
    """Why cores were raised."""
    return "several cards are taken with all of their cores" if ask.cards > 1 else ""


SPECIAL = Special(words={"resolve": resolve, "remarks": remarks})
