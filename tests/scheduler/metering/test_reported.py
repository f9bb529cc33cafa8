"""Gateways against engines, as the leader shows it."""

from kerf.testing.fake_kube import FakeKube
from kerf.values.engine import Tokens
from kerf.values.policy import MeteringSettings
from kerf.values.usage import HOUR_MS, ReportedHour, ReportedRow
from kerf.wire.gatewayrecords import PATH, name_of, render_reported
from scheduler.metering.reported import ReportWatch
from tests.kerf.metering.histories import START

ON = MeteringSettings(enabled=True, gateway_reports=True)


def shown(settings: MeteringSettings, *hours: ReportedHour) -> dict[str, dict[str, float]]:
    """By family and model, where engines counted 100 tokens of m in the hour that is open."""
    kube = FakeKube()
    for hour in hours:
        kube.patch(f"{PATH}/{name_of(hour)}", render_reported(hour), "apply")
    watch = ReportWatch(kube, lambda: settings, lambda: {START: {"m": Tokens(40, 30, 30)}})
    watch.run_once()
    return {f.name: {s.labels["model"]: s.value for s in f.samples} for f in watch.families("west")}


def reported(gateway: str, model: str, tokens: int, hour_ms: int = START) -> ReportedHour:
    return ReportedHour(hour_ms, gateway, "s", (ReportedRow("k", "", model, 1, tokens, 0, 5),))


def test_the_difference_is_a_part_of_what_engines_counted():
    found = shown(
        ON,
        reported("a", "m", 55),
        reported("b", "m", 55),
        reported("c", "n", 1),
        reported("a", "m", 9, START - HOUR_MS),
    )

    assert found == {
        "kerf_engine_tokens": {"m": 100, "n": 0},
        "kerf_gateway_tokens": {"m": 120, "n": 6},
        "kerf_gateway_difference_ratio": {"m": 0.2, "n": 1.0},
    }


def test_it_is_off_by_default():
    assert shown(MeteringSettings(enabled=True), reported("a", "m", 5)) == {}
