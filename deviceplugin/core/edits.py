"""What a container gets for its slices: environment, mounts and limits. The same grant and node give the same text."""

import json
from collections.abc import Mapping
from dataclasses import replace

from kerf.values.grant import Slice
from kerf.values.injection import INSIDE, NodeFiles, Terms
from kerf.values.units import MIB
from kerf.values.vendor import ResourceNames, Vendor
from kerf.wire.cdi import Edits, render_spec
from kerf.wire.json import Json
from kerf.wire.limiter import CardLimit, LedgerSpec

POD = "kerf.dev/pod"
UID = "kerf.dev/uid"


def limits_of(slices: tuple[Slice, ...], files: NodeFiles, terms: Terms) -> LedgerSpec:
    """The limiter's ledger for these slices, in the order of the container's device indices.

    Through MPS the daemon gives each program its SMs, so the limiter counts GPU time there and holds nothing back: it
    gets neither a limit nor a seat beside the card's other containers, where gangs would take turns.
    """
    through_mps = dict(files.mps)
    arbiters = {card: path for card, path in files.arbiters if card not in through_mps}
    by_vendor: dict[str, list[str]] = {}
    for s in slices:
        by_vendor.setdefault(s.vendor, []).append(s.card)
    inside = {card: f"{INSIDE}/arbiter-{i}" for cards in by_vendor.values() for i, card in enumerate(cards)}
    limits = (
        CardLimit(
            s.card,
            s.memory_mib * MIB,
            (s.card not in through_mps and s.cores) or None,
            inside[s.card] if s.card in arbiters else "",
        )
        for s in slices
    )
    return LedgerSpec(tuple(limits), terms.policy, terms.priority)


def edits_of(
    slices: tuple[Slice, ...], ledger: str, files: NodeFiles, terms: Terms, vendors: tuple[Vendor, ...]
) -> Edits:
    """The container's edits, vendor by vendor; `ledger` is the host path of its ledger file."""
    specs = dict(files.specs)
    given = replace(files, ledger=ledger)
    parts = [
        vendor.inject(own, given, terms)
        for vendor in vendors
        if (own := tuple(s for s in slices if s.vendor == vendor.name))
    ]
    return Edits(
        env=tuple(pair for part in parts for pair in part.env),
        mounts=tuple(mount for part in parts for mount in part.mounts),
        merged=tuple(specs[name] for s in slices if (name := files.name_of(s)) in specs),
    )


def render_specs(pod: str, uid: str, devices: tuple[tuple[str, Edits], ...]) -> str:
    """A CDI spec file with one device per name. Its annotations name the pod, for the clean-up."""
    return render_spec(devices, {POD: pod, UID: uid})


def spec_uid(text: str) -> str:
    """The uid of the pod that a spec file was written for, "" if the file is damaged or not Kerf's."""
    try:
        document = json.loads(text)
    except ValueError:
        return ""
    notes = document.get("annotations") if isinstance(document, dict) else None
    return str(notes.get(UID, "")) if isinstance(notes, dict) else ""


def opts_out(container: Json, names: tuple[ResourceNames, ...]) -> bool:
    """Whether the container's environment asks to run without the limiter (HAMi's `CUDA_DISABLE_CONTROL=true`)."""
    env, words = container.get("env"), {words.opt_out_env for words in names} - {""}
    return isinstance(env, list) and any(
        isinstance(item, Mapping) and item.get("name") in words and str(item.get("value")).lower() == "true"
        for item in env
    )
