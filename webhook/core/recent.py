"""What this webhook admitted a moment ago, until the books show it: two creations at once must not both pass."""

from dataclasses import dataclass

from kerf.values.quota import NOTHING, Amount

SECONDS = 3.0
"""How long an admission is remembered. The quota controller writes a tenant's books within about a second."""


@dataclass(frozen=True, slots=True)
class RecentReview:
    """One admitted pod's part of one class of a tenant's cards.

    `before` is what the books said was held and waited for when it was admitted; `at` is monotonic seconds.
    """

    tenant: str
    slug: str
    amount: Amount
    before: Amount
    at: float


@dataclass(frozen=True, slots=True)
class Recent:
    """Admissions of the last few seconds, the oldest first."""

    entries: tuple[RecentReview, ...] = ()

    def at(self, now: float) -> "Recent":
        """Those that still count."""
        return Recent(tuple(entry for entry in self.entries if now - entry.at < SECONDS))

    def plus(self, entries: tuple[RecentReview, ...]) -> "Recent":
        """With these, the newest."""
        return Recent(self.entries + entries)

    def held(self, tenant: str, slug: str, now_said: Amount) -> Amount:
        """What has to count as held where the books now say `now_said`.

        At least what they said when something was admitted, plus all that was admitted since: an admission that the
        books already show is thus not counted twice. What was freed meanwhile counts for up to three seconds more.
        """
        held, since = now_said, NOTHING
        for entry in reversed(self.entries):
            if (entry.tenant, entry.slug) == (tenant, slug):
                since += entry.amount
                held = held.peak(entry.before + since)
        return held


NOTHING_RECENT = Recent()
