"""The block `fleet` of a SchedulingPolicy: when a cluster counts as lost, and when what runs moves."""

from dataclasses import replace

from kerf.values.fleet import FleetSettings
from kerf.wire.fields import known, real
from kerf.wire.json import Json

_KEYS = {
    "lostAfterSeconds": ("lost_after_s", (5.0, 86_400.0)),
    "staleAfterSeconds": ("stale_after_s", (3.0, 3600.0)),
    "backOffSeconds": ("back_off_s", (0.0, 86_400.0)),
    "mostBackOffSeconds": ("most_back_off_s", (0.0, 604_800.0)),
    "halfLifeSeconds": ("half_life_s", (60.0, 31_536_000.0)),
    "trusted": ("trusted", (0.0, 1.0)),
    "moveSavingPercent": ("move_saving_percent", (0.0, 100.0)),
}


def parse_fleet_settings(value: Json, where: str) -> FleetSettings:
    """Read the block. Raises WireError."""
    zero = FleetSettings()
    known(value, where, _KEYS)
    found = FleetSettings(
        **{name: real(value, key, where, getattr(zero, name), bounds) for key, (name, bounds) in _KEYS.items()}
    )
    return replace(found, stale_after_s=min(found.stale_after_s, found.lost_after_s))
