"""TenantUsage: what is stored reads back as it was, and moments are those of Kubernetes."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.usage import (
    CardRow,
    CounterRow,
    TokenPrice,
    TokenRow,
    UsageRecord,
    UsageRow,
    hour_text,
)
from kerf.wire.errors import WireError
from kerf.wire.usage import day_text, moment_text, parse_moment, parse_usage, render_usage
from tests.kerf.metering.histories import START

ROW = UsageRow(
    "ns", "Deployment/chat", "m", "nvidia-h100", "H100", "owned", "",
    Decimal("3600.000001"), Decimal(5), Decimal(0), Decimal("0.000000000001"),
)  # fmt: skip
RECORD = UsageRecord(
    START, START + 5, "team", "", "west", "EUR", True,
    rows=(ROW,),
    tokens=(TokenRow("ns", "Deployment/chat", "m", 1, 2, 2**62),),
    cards=(CardRow("nvidia-h100", "H100", "owned", "r", Decimal(60), Decimal("1.5"), Decimal("0.025")),),
    prices=(TokenPrice("m", Decimal(1), Decimal("0.1"), Decimal("0.5556"), measured=False),),
    counters=(CounterRow("uid", "2026-01-01T00:00:00Z", "m", 1, 2, 3),),
    gaps=("node-1: not known",),
)  # fmt: skip


def test_a_record_reads_back_as_it_was_written() -> None:
    assert parse_usage(json.loads(json.dumps(render_usage(RECORD)))) == RECORD


def test_the_object_has_every_field_under_the_key_of_its_definition() -> None:
    card = {"class": "nvidia-h100", "cardModel": "H100", "supply": "owned"}
    used = {"vgpuSeconds": "3600.000001", "mibSeconds": "5", "coreSeconds": "0", "cost": "0.000000000001"}
    whose = {"namespace": "ns", "workload": "Deployment/chat", "model": "m"}
    assert render_usage(RECORD)["spec"] == {
        "hour": "2025-11-27T16:00:00.000Z",
        "until": "2025-11-27T16:00:00.005Z",
        "closed": True,
        "tenant": "team",
        "cluster": "west",
        "currency": "EUR",
        "rows": [{**whose, **card, "region": "", **used}],
        "tokens": [{**whose, "input": 1, "cached": 2, "output": 2**62}],
        "cards": [{**card, "region": "r", "seconds": "60", "perHour": "1.5", "cost": "0.025"}],
        "prices": [{"model": "m", "input": "1", "cached": "0.1", "output": "0.5556", "measured": False}],
        "counters": [
            {"uid": "uid", "started": "2026-01-01T00:00:00Z", "model": "m", "input": 1, "cached": 2, "output": 3}
        ],
        "gaps": ["node-1: not known"],
    }


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (UsageRecord(START, START), "2025112716"),
        (UsageRecord(START, START, "team-a"), "2025112716-t-team-a"),
        (UsageRecord(START, START, "", "default"), "2025112716-n-default"),
    ],
)
def test_a_name_sorts_by_hour_and_never_means_two_owners(record: UsageRecord, name: str) -> None:
    assert record.name == name
    assert render_usage(record)["metadata"]["labels"] == {"kerf.dev/usage-day": "20251127"}


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)))
def test_moments_are_those_of_the_calendar(naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    ms = round(moment.timestamp() * 1000)

    assert moment_text(ms) == moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
    assert parse_moment(moment_text(ms), "at") == ms
    assert parse_moment(moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "at") == ms // 1000 * 1000
    assert hour_text(ms) == moment.strftime("%Y%m%d%H")
    assert day_text(ms) == moment.strftime("%Y%m%d")


@pytest.mark.parametrize("text", [None, "", "now", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+01:00", 5])
def test_what_is_no_moment_is_refused(text: object) -> None:
    with pytest.raises(WireError, match="write a moment in UTC"):
        parse_moment(text, "spec.hour")


def test_a_broken_number_is_refused_with_its_field() -> None:
    item = render_usage(RECORD)
    item["spec"]["rows"][0]["cost"] = "-1"

    with pytest.raises(WireError, match=r"spec.rows\[0\].cost"):
        parse_usage(item)
