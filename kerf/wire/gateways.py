"""`spec.gateways` of a SchedulingPolicy, whose words `kerf export gateway` has as flags."""

import json
import re
from collections.abc import Iterable

from kerf.values.gateways import Gateway, GatewaySettings, Per
from kerf.wire.errors import WireError
from kerf.wire.fields import flag, known, list_at, one_of, part_at, real, text, whole
from kerf.wire.json import Json

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_PICKER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:[0-9]{1,5}", re.ASCII)
_GATEWAY = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,256}", re.ASCII)
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_KEYS = (
    "to", "namespace", "namespaces", "pods", "per", "retries", "allowedFails", "cooldownSeconds", "timeoutSeconds",
    "tokensPerMinute", "requestsPerMinute", "limitHeader", "gateway", "picker", "telemetry", "litellm", "drainSeconds",
    "settleSeconds",
)  # fmt: skip
MOST = 2**31 - 1
NOTHING = GatewaySettings()


def parse_gateways(value: Json, where: str, base: GatewaySettings = NOTHING) -> GatewaySettings:
    """Read the block; what it does not say is as in `base`. Raises WireError."""
    known(value, where, _KEYS)
    found = GatewaySettings(
        to=_to(list_at(value.get("to"), f"{where}.to"), f"{where}.to") or base.to,
        namespace=_optional(value, "namespace", where, _NAME, "the name of a namespace") or base.namespace,
        namespaces=_names(list_at(value.get("namespaces"), f"{where}.namespaces"), f"{where}.namespaces")
        or base.namespaces,
        pods=_labels(part_at(value, "pods", f"{where}.pods"), f"{where}.pods") or base.pods,
        per=Per(one_of(value, "per", where, base.per.value, tuple(Per))),
        retries=whole(value, "retries", where, base.retries, (0, 100)),
        allowed_fails=whole(value, "allowedFails", where, base.allowed_fails, (0, 1000)),
        cooldown_s=whole(value, "cooldownSeconds", where, base.cooldown_s, (1, 3600)),
        timeout_s=whole(value, "timeoutSeconds", where, base.timeout_s, (1, 86_400)),
        tokens_per_minute=whole(value, "tokensPerMinute", where, base.tokens_per_minute, (0, MOST)),
        requests_per_minute=whole(value, "requestsPerMinute", where, base.requests_per_minute, (0, MOST)),
        limit_header=_optional(value, "limitHeader", where, _HEADER, "the name of a header") or base.limit_header,
        gateway=_optional(value, "gateway", where, _GATEWAY, "NAME or NAMESPACE/NAME of Envoy's Gateway")
        or base.gateway,
        picker=_optional(value, "picker", where, _PICKER, "SERVICE:PORT of the endpoint picker") or base.picker,
        telemetry=flag(value, "telemetry", where, base.telemetry),
        litellm=_litellm(part_at(value, "litellm", f"{where}.litellm"), f"{where}.litellm") or base.litellm,
        drain_s=real(value, "drainSeconds", where, base.drain_s, (0.0, 3600.0)),
        settle_s=real(value, "settleSeconds", where, base.settle_s, (0.0, 3600.0)),
    )
    check_gateways(found, where)
    return found


def check_gateways(found: GatewaySettings, where: str) -> None:
    """Each gateway has what it needs. Raises WireError."""
    if Gateway.POOL in found.to and not _fits_port(found.picker):
        fix = "name the endpoint picker beside the pods as SERVICE:PORT; without one nothing serves an InferencePool"
        raise WireError(f"{where}.picker", found.picker, fix)
    if Gateway.ENVOY in found.to and not found.gateway:
        raise WireError(
            f"{where}.gateway", found.gateway, "name the Gateway that routes belong to: NAME or NAMESPACE/NAME"
        )
    if set(found.to) - {Gateway.POOL} and not found.namespace:
        raise WireError(f"{where}.namespace", found.namespace, "name the namespace to write the objects to")
    if found.picker and not _fits_port(found.picker):
        raise WireError(f"{where}.picker", found.picker, "write a port from 1 to 65535")


def _fits_port(picker: str) -> bool:
    port = picker.rpartition(":")[2]
    return port.isdigit() and 0 < int(port) < 65_536


def _to(names: Iterable[object], where: str) -> tuple[Gateway, ...]:
    found: list[Gateway] = []
    for i, name in enumerate(names):
        if name not in tuple(Gateway):
            raise WireError(f"{where}[{i}]", name, f"use one of {', '.join(Gateway)}")
        if name in found:
            raise WireError(f"{where}[{i}]", name, "name each gateway once")
        found.append(Gateway(str(name)))
    return tuple(found)


def _names(names: Iterable[object], where: str) -> tuple[str, ...]:
    found = []
    for i, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WireError(f"{where}[{i}]", name, "write the name of a namespace")
        found.append(name)
    return tuple(dict.fromkeys(found))


def _labels(labels: Json, where: str) -> tuple[tuple[str, str], ...]:
    for key, value in labels.items():
        if not isinstance(value, str) or not _LABEL.fullmatch(value):
            raise WireError(f"{where}.{key}", value, 'write the value of a label as a text, such as "true"')
    return tuple(sorted((str(key), value) for key, value in labels.items()))


def _optional(value: Json, key: str, where: str, pattern: re.Pattern[str], what: str) -> str:
    if value.get(key) in (None, ""):
        return ""
    found = text(value, key, where, None)
    if not pattern.fullmatch(found):
        raise WireError(f"{where}.{key}", found, f"write {what}")
    return found


def _litellm(value: Json, where: str) -> str:
    for key, part in value.items():
        if key == "model_list":
            if not isinstance(part, list):
                raise WireError(f"{where}.{key}", part, "write a list of further deployments")
        elif not isinstance(part, dict):
            raise WireError(f"{where}.{key}", part, "write a section of LiteLLM's configuration, an object")
    try:
        return json.dumps(value, sort_keys=True) if value else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(where, "…", f"write what JSON can hold ({error})") from error
