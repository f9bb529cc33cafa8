"""Reasons: their order is the order of the checks, and only some of them can pass with time."""

from kerf.values.verdict import FOREVER, Reason


def test_what_waiting_cannot_cure_is_said_before_what_it_can() -> None:
    assert max(FOREVER) < min(reason for reason in Reason if reason not in FOREVER and reason is not Reason.FITS)
