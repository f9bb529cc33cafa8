"""Rules that are handed new policies and books while they answer."""

from kerf.testing.builders import a_pod
from kerf.values.policy import Defaults, QuotaEngine, QuotaSettings, SchedulingPolicy
from kerf.values.quota import Bound
from kerf.vendors.registry import VENDORS
from tests.webhook.json_patch import apply
from tests.webhook.tenants import a_book, a_class_book, a_review
from webhook.core.settings import Settings
from webhook.server.rules import Rules

LIMITED = a_book(a_class_book(limit=Bound(10_000)), enforced=True)


def test_a_policy_and_books_count_from_the_next_review_on() -> None:
    rules = Rules(Settings(VENDORS, scheduler_name="mine"))
    pod = a_pod(mem=None, cores=None)
    rules.adopt(SchedulingPolicy(defaults=Defaults(memory_mib=4000)))
    rules.know((LIMITED,))

    spec = apply(pod, rules.decide(a_review(pod)).patch)["spec"]

    limits = spec["containers"][0]["resources"]["limits"]
    assert (spec["schedulerName"], limits["quota.kerf.dev/nvidia-mib"]) == ("mine", "4000")

    rules.adopt(SchedulingPolicy(quota=QuotaSettings(engine=QuotaEngine.OFF)))
    assert "quota.kerf.dev" not in str(rules.decide(a_review(pod)).patch)


def test_it_remembers_what_it_admitted_for_three_seconds() -> None:
    now = [100.0]
    rules = Rules(Settings(VENDORS), clock=lambda: now[0])
    rules.know((LIMITED,))
    allowed = []
    for at in (100.0, 101.0, 102.9, 103.0):
        now[0] = at
        allowed.append(rules.decide(a_review(a_pod(mem=6000))).allowed)

    assert allowed == [True, False, False, True]
