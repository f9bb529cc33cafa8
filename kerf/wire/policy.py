"""`kind: SchedulingPolicy` (kerf.dev/v1alpha1): a parsed YAML document to the model's policy."""

from kerf.values.allocator import Allocator
from kerf.values.policy import (
    AdmissionSettings,
    Defaults,
    DriverLimits,
    MpsDaemon,
    Offer,
    PlannerSettings,
    Pool,
    PoolMode,
    QuotaEngine,
    QuotaSettings,
    ReclaimSettings,
    SchedulingPolicy,
)
from kerf.values.recovery import AfterDeadline
from kerf.wire.accepts import parse_accepts_settings
from kerf.wire.errors import WireError
from kerf.wire.fields import (
    LONGEST_TEXT,
    check_kind,
    flag,
    known,
    list_at,
    object_at,
    one_of,
    part_at,
    real,
    text,
    whole,
)
from kerf.wire.fleet_settings import parse_fleet_settings
from kerf.wire.gateways import parse_gateways
from kerf.wire.json import Json
from kerf.wire.learned import parse_learning
from kerf.wire.metering import parse_metering
from kerf.wire.recovery import parse_mode, parse_recovery

KIND = "SchedulingPolicy"
NODE_POLICIES = ("binpack", "spread", "fragmentation")
CARD_ORDERS = ("binpack", "spread", "numa")
_ALLOCATORS = (Allocator.EXTENDER.value, Allocator.DRA.value)
CARD_FILTERS = ("mutex", "topology", "topology-aware")
"""`topology-aware` is HAMi's name for `topology`."""


def parse_policy(document: object) -> SchedulingPolicy:
    """Read a policy. An unknown key, a wrong type or an impossible value raises WireError with the fix."""
    top = object_at(document, "policy")
    known(top, "policy", ("apiVersion", "kind", "metadata", "spec"))
    check_kind(top, KIND)
    spec = part_at(top, "spec", "spec")
    blocks = (
        "planner",
        "quota",
        "admission",
        "recovery",
        "metering",
        "fleet",
        "offer",
        "express",
        "accepts",
        "learning",
        "gateways",
    )
    known(spec, "spec", ("nodes", "cards", "weights", "defaults", "pools", *blocks))
    zero = SchedulingPolicy()
    return SchedulingPolicy(
        nodes=parse_node_policy(spec.get("nodes", zero.nodes), "spec.nodes"),
        cards=parse_card_policies(spec.get("cards", list(zero.cards)), "spec.cards"),
        weights=_weights(spec["weights"]) if "weights" in spec else zero.weights,
        defaults=_defaults(part_at(spec, "defaults", "spec.defaults")),
        pools=tuple(_pool(pool, f"spec.pools[{i}]") for i, pool in enumerate(list_at(spec.get("pools"), "spec.pools"))),
        planner=_planner(part_at(spec, "planner", "spec.planner")),
        quota=_quota(part_at(spec, "quota", "spec.quota")),
        metering=parse_metering(part_at(spec, "metering", "spec.metering"), "spec.metering"),
        gateways=parse_gateways(part_at(spec, "gateways", "spec.gateways"), "spec.gateways"),
        fleet=parse_fleet_settings(part_at(spec, "fleet", "spec.fleet"), "spec.fleet"),
        learning=parse_learning(part_at(spec, "learning", "spec.learning"), "spec.learning"),
        admission=_admission(part_at(spec, "admission", "spec.admission")),
        accepts=parse_accepts_settings(part_at(spec, "accepts", "spec.accepts")),
        offer=Offer(one_of(spec, "offer", "spec", zero.offer.value, list(Offer))),
        express=flag(spec, "express", "spec", zero.express),
        recovery=parse_recovery(part_at(spec, "recovery", "spec.recovery")),
    )


def parse_node_policy(value: object, where: str) -> str:
    """One of the node policies. Raises WireError."""
    if value not in NODE_POLICIES:
        raise WireError(where, value, f"use one of {', '.join(NODE_POLICIES)}")
    return str(value)


def parse_card_policies(value: object, where: str) -> tuple[str, ...]:
    """An ordered chain of card policies, a list or a comma text. Raises WireError."""
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    known = (*CARD_ORDERS, *CARD_FILTERS)
    if not isinstance(words, list | tuple) or not words or any(word not in known for word in words):
        raise WireError(where, value, f"write a chain of {', '.join(known)}")
    if len(set(words)) != len(words):
        raise WireError(where, value, "name each policy once")
    return tuple("topology" if word == "topology-aware" else str(word) for word in words)


def _weights(value: object) -> tuple[int, int, int]:
    weights = object_at(value, "spec.weights")
    known(weights, "spec.weights", ("slot", "core", "memory"))
    found = tuple(whole(weights, key, "spec.weights", None, (0, 1000)) for key in ("slot", "core", "memory"))
    if max(found) == 0:
        raise WireError("spec.weights", dict(weights), "give at least one a positive number")
    return found[0], found[1], found[2]


def _defaults(value: Json) -> Defaults:
    where, zero = "spec.defaults", Defaults()
    known(value, where, ("memoryMiB", "cores", "cards", "wholeCardCores"))
    return Defaults(
        memory_mib=whole(value, "memoryMiB", where, zero.memory_mib, (0, 2**31 - 1)),
        cores=whole(value, "cores", where, zero.cores, (0, 100)),
        cards=whole(value, "cards", where, zero.cards, (1, 64)),
        whole_card_cores=flag(value, "wholeCardCores", where, zero.whole_card_cores),
    )


def _pool(value: object, where: str) -> Pool:
    pool = object_at(value, where)
    numbers = ("memoryOvercommit", "coresOvercommit")
    known(pool, where, ("name", "nodeSelector", *numbers, "recovery", "mode", "mpsDaemon", "driverLimits", "allocator"))
    selector = object_at(pool.get("nodeSelector") or {}, f"{where}.nodeSelector")
    return Pool(
        name=text(pool, "name", where, None),
        node_selector=tuple(sorted((str(key), str(word)) for key, word in selector.items())),
        memory_overcommit=real(pool, "memoryOvercommit", where, 1.0, (0.1, 10.0)),
        cores_overcommit=real(pool, "coresOvercommit", where, 1.0, (0.1, 10.0)),
        recovery=parse_mode(pool, "recovery", where),
        mode=PoolMode(one_of(pool, "mode", where, PoolMode.PRELOAD.value, list(PoolMode))),
        driver_limits=DriverLimits(one_of(pool, "driverLimits", where, DriverLimits.NEVER.value, list(DriverLimits))),
        mps_daemon=MpsDaemon(one_of(pool, "mpsDaemon", where, MpsDaemon.CARD.value, list(MpsDaemon))),
        allocator=Allocator(one_of(pool, "allocator", where, Allocator.EXTENDER.value, _ALLOCATORS)),
    )


def _planner(value: Json) -> PlannerSettings:
    where, zero = "spec.planner", PlannerSettings()
    whole(value, "contendedPercent", where, 85, (0, 100))  # of policies before 0.3; it never had an effect
    known(value, where, ("enabled", "contendedPercent", "maxPods", "deterministicLimit", "gangTimeoutSeconds"))
    return PlannerSettings(
        enabled=flag(value, "enabled", where, zero.enabled),
        max_pods=whole(value, "maxPods", where, zero.max_pods, (1, 10_000)),
        deterministic_limit=real(value, "deterministicLimit", where, zero.deterministic_limit, (0.01, 60.0)),
        gang_timeout_s=real(value, "gangTimeoutSeconds", where, zero.gang_timeout_s, (1.0, 86_400.0)),
    )


def _quota(value: Json) -> QuotaSettings:
    where, zero = "spec.quota", QuotaSettings()
    if value.get("engine") is False:  # YAML reads a bare off as false
        value = {**value, "engine": QuotaEngine.OFF.value}
    known(value, where, ("engine", "reservePercent", "shrinkAfterSeconds", "cohort", "queue", "fitCheck", "reclaim"))
    return QuotaSettings(
        engine=QuotaEngine(one_of(value, "engine", where, zero.engine.value, [engine.value for engine in QuotaEngine])),
        reserve_percent=whole(value, "reservePercent", where, zero.reserve_percent, (0, 99)),
        shrink_after_s=real(value, "shrinkAfterSeconds", where, zero.shrink_after_s, (0.0, 3600.0)),
        cohort=text(value, "cohort", where, zero.cohort),
        queue=text(value, "queue", where, zero.queue),
        fit_check=flag(value, "fitCheck", where, zero.fit_check),
        reclaim=_reclaim(value),
    )


def _reclaim(quota: Json) -> ReclaimSettings:
    where, zero = "spec.quota.reclaim", ReclaimSettings()
    if isinstance(quota.get("reclaim"), bool | str):
        raise WireError(where, quota["reclaim"], "write an object: {mode: wait} or {mode: evict}")
    value = part_at(quota, "reclaim", where)
    known(value, where, ("mode", "deadlineSeconds", "afterDeadline"))
    words = [word.value for word in AfterDeadline]
    return ReclaimSettings(
        enabled=one_of(value, "mode", where, "evict", ("evict", "wait")) == "evict",
        deadline_s=real(value, "deadlineSeconds", where, zero.deadline_s, (0.0, 604_800.0)),
        after_deadline=AfterDeadline(one_of(value, "afterDeadline", where, zero.after_deadline.value, words)),
    )


def _admission(value: Json) -> AdmissionSettings:
    where = "spec.admission"
    known(value, where, ("privileged", "otherResources"))
    others = list_at(value.get("otherResources"), f"{where}.otherResources")
    for i, name in enumerate(others):
        if not isinstance(name, str) or "/" not in name or not 1 < len(name) <= LONGEST_TEXT:
            raise WireError(
                f"{where}.otherResources[{i}]", name, "write a resource, such as example.com/npu or nvidia.com/mig-*"
            )
    return AdmissionSettings(
        privileged=one_of(value, "privileged", where, "refuse", ("refuse", "allow")) == "allow",
        other_resources=tuple(others),
    )
