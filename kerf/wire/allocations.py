"""What the webhook asks the scheduler before Kubernetes allocates devices to a claim, and the answer: JSON."""

from dataclasses import dataclass

import orjson

from kerf.values.claim import Claim
from kerf.wire.body import object_of
from kerf.wire.claims import parse_claim
from kerf.wire.devices import DRIVER
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at

PATH = "/claims"
LONGEST_WHY = 1000
UNCOUNTED = f"Kerf's scheduler has to count claims of {DRIVER}"
"""How the webhook's answer begins where no leader counts: `kerf doctor` knows it by that."""
_DIGITS = 20
"""A resourceVersion is a number of 64 bits."""


@dataclass(frozen=True, slots=True)
class AllocationQuestion:
    """A claim as it is to be stored. The write takes effect on this version of it, or never."""

    claim: Claim
    based_on: int
    keep: bool = True
    """It is about to be stored; False leaves no trace."""


def devices_of(claim: Json) -> list[Json]:
    """The devices of Kerf's driver that a claim holds."""
    results = items_at(claim, "status", "allocation", "devices", "results")
    return [result for result in results if result.get("driver") == DRIVER]


def render_question(claim: Json, old: Json, *, keep: bool) -> bytes:
    """The body of a request about a claim that is `old` until it is stored."""
    meta = at(claim, "metadata")
    short = {
        "metadata": {key: meta[key] for key in ("name", "namespace", "uid") if key in meta},
        "status": {
            "allocation": {"devices": {"results": devices_of(claim)}},
            "reservedFor": items_at(claim, "status", "reservedFor"),
        },
    }
    document = {"v": 1, "claim": short, "basedOn": text_at(old, "metadata", "resourceVersion"), "keep": keep}
    return orjson.dumps(document)


def parse_question(body: bytes) -> AllocationQuestion:
    """Read a request. Raises WireError."""
    document = object_of(body)
    if document.get("v") != 1:
        raise WireError("v", document.get("v"), "send 1")
    claim, keep = document.get("claim"), document.get("keep")
    if not isinstance(claim, dict):
        raise WireError("claim", claim, "send a ResourceClaim")
    if not isinstance(keep, bool):
        raise WireError("keep", keep, "send true or false")
    found = parse_claim(claim)
    if not (found.uid and found.name):
        raise WireError("claim.metadata", at(claim, "metadata"), "send a name and a uid")
    based_on = document.get("basedOn")
    if not isinstance(based_on, str) or not (based_on.isascii() and based_on.isdigit()) or len(based_on) > _DIGITS:
        raise WireError("basedOn", based_on, "send a resourceVersion, a whole number as text")
    return AllocationQuestion(found, int(based_on), keep)


def render_answer(why: str) -> bytes:
    """The body of an answer: why the devices are not to be allocated, empty where they may be."""
    return orjson.dumps({"v": 1, "allowed": not why, "why": why})


def parse_answer(body: bytes) -> str:
    """Read an answer: empty where the devices may be allocated. Raises WireError."""
    document = object_of(body)
    allowed, why = document.get("allowed"), document.get("why")
    if not isinstance(allowed, bool) or not isinstance(why, str) or allowed is bool(why):
        raise WireError("allowed, why", [allowed, why], "send true and an empty text, or false and the reason")
    return why[:LONGEST_WHY]
