"""`spec.metering` of a SchedulingPolicy."""

from kerf.values.policy import MeteringSettings, ScaleSettings, TokenSettings
from kerf.values.supply import Supply
from kerf.wire.errors import WireError
from kerf.wire.fields import amount, flag, known, object_at, one_of, real, whole
from kerf.wire.json import Json

LONGEST_NAME = 63


def parse_metering(value: Json, where: str) -> MeteringSettings:
    """Read the block. Raises WireError."""
    zero = MeteringSettings()
    keys = ("enabled", "cluster", "supply", "retentionDays", "writeSeconds", "scrapeSeconds")
    known(value, where, (*keys, "openCost", "gatewayReports", "tokens", "scaleOut"))
    cluster = value.get("cluster", zero.cluster)
    if not isinstance(cluster, str) or len(cluster) > LONGEST_NAME:
        raise WireError(f"{where}.cluster", cluster, f"write a text of at most {LONGEST_NAME} characters")
    return MeteringSettings(
        enabled=flag(value, "enabled", where, zero.enabled),
        cluster=cluster,
        supply=one_of(value, "supply", where, zero.supply, Supply),
        retention_days=whole(value, "retentionDays", where, zero.retention_days, (1, 3660)),
        write_s=real(value, "writeSeconds", where, zero.write_s, (5.0, 3600.0)),
        scrape_s=real(value, "scrapeSeconds", where, zero.scrape_s, (0.0, 300.0)),
        open_cost=flag(value, "openCost", where, zero.open_cost),
        gateway_reports=flag(value, "gatewayReports", where, zero.gateway_reports),
        tokens=_tokens(object_at(value.get("tokens") or {}, f"{where}.tokens"), f"{where}.tokens"),
        scale=_scale(object_at(value.get("scaleOut") or {}, f"{where}.scaleOut"), f"{where}.scaleOut"),
    )


def _tokens(value: Json, where: str) -> TokenSettings:
    zero = TokenSettings()
    weights, bounds = ("inputWeight", "cachedWeight", "outputWeight"), ("marginPercent", "floor", "ceiling")
    known(value, where, (*weights, *bounds, "halfLifeMinutes", "withIdle"))
    found = TokenSettings(
        input_weight=amount(value, "inputWeight", where, zero.input_weight),
        cached_weight=amount(value, "cachedWeight", where, zero.cached_weight),
        output_weight=amount(value, "outputWeight", where, zero.output_weight),
        margin_percent=amount(value, "marginPercent", where, zero.margin_percent),
        floor=amount(value, "floor", where, zero.floor),
        ceiling=amount(value, "ceiling", where, zero.ceiling),
        half_life_minutes=real(value, "halfLifeMinutes", where, zero.half_life_minutes, (0.0, 10_080.0)),
        with_idle=flag(value, "withIdle", where, zero.with_idle),
    )
    if found.output_weight == 0:
        raise WireError(f"{where}.outputWeight", value.get("outputWeight"), "write a number above 0")
    if found.floor > found.ceiling:
        raise WireError(f"{where}.ceiling", value.get("ceiling"), f"write at least the floor, {found.floor}")
    return found


def _scale(value: Json, where: str) -> ScaleSettings:
    zero = ScaleSettings()
    known(value, where, ("waitingPerReplica", "kvPercent", "mostReplicas", "cooldownSeconds"))
    return ScaleSettings(
        waiting_per_replica=whole(value, "waitingPerReplica", where, zero.waiting_per_replica, (1, 10_000)),
        kv_percent=whole(value, "kvPercent", where, zero.kv_percent, (1, 100)),
        most_replicas=whole(value, "mostReplicas", where, zero.most_replicas, (1, 10_000)),
        cooldown_s=real(value, "cooldownSeconds", where, zero.cooldown_s, (0.0, 86_400.0)),
    )
