"""The webhook's question about an allocation, over HTTP: the leader counts it, and nobody else answers."""

from typing import Any

import orjson
import pytest

from kerf.obs.metrics import Metrics
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.allocations import parse_answer, render_question
from kerf.wire.errors import WireError
from scheduler.extender.claims import ClaimCount
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store
from tests.scheduler.state.test_counted_claims import claim_of, team


def question(name: str, mib: int, **changes: Any) -> bytes:
    return render_question(claim_of(name, ("gpu-0", mib, 0)), claim_of(name, version=7), keep=True)


def test_the_answer_has_the_claim_the_numbers_and_what_happens_next() -> None:
    metrics = SchedulerMetrics.build(registry := Metrics())
    count = ClaimCount(team(), metrics)

    said = [parse_answer(count.answer(question(name, 6000))) for name in ("a", "b")]

    assert said == [
        "",
        (
            "claim team/b: quota: tenant team holds 6,000 MiB of at most 10,000 MiB of NVIDIA H100 80GB HBM3; "
            "6,000 MiB asked, 4,000 MiB would fit; kube-scheduler tries again"
        ),
    ]
    page = registry.render().decode()
    assert 'kerf_claim_questions_total{outcome="allowed"} 1.0' in page
    assert 'kerf_claim_questions_total{outcome="refused"} 1.0' in page


def test_a_scheduler_that_does_not_watch_claims_says_so() -> None:
    verbs = Verbs(Store(SchedulingPolicy(), VENDORS).desk, SchedulerMetrics.build(Metrics()))

    with pytest.raises(WireError, match="start the scheduler with --dra"):
        verbs.claims(question("a", 1))


@pytest.mark.parametrize(
    ("change", "field"),
    [({"v": 2}, "v"), ({"claim": []}, "claim"), ({"keep": 1}, "keep"), ({"basedOn": 7}, "basedOn")],
)
def test_what_is_no_question_is_refused_with_the_field(change: dict[str, Any], field: str) -> None:
    count = ClaimCount(team(), SchedulerMetrics.build(Metrics()))

    with pytest.raises(WireError) as error:
        count.answer(orjson.dumps({**orjson.loads(question("a", 1)), **change}))

    assert error.value.field == field
