"""Allocations of claims: which ones the scheduler is asked about before they are stored, and what follows from it."""

from kerf.wire.admission import Answer, Review
from kerf.wire.allocations import devices_of, render_question
from kerf.wire.json import at

KIND = ("resource.k8s.io", "ResourceClaim", "status")


def claim_question(review: Review) -> bytes | None:
    """The body of the question, where a claim gets devices of Kerf's that it does not have yet; else None."""
    if (review.group, review.kind, review.subresource) != KIND or review.operation != "UPDATE":
        return None
    if at(review.old, "status", "allocation") or not devices_of(review.object):
        return None
    return render_question(review.object, review.old, keep=not review.dry_run)


def claim_answer(why: str) -> Answer:
    """Allowed, unless there is a reason why not."""
    return Answer(allowed=not why, message=why)
