"""The pods of kube-scheduler's questions as values; what pods of one template share is read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.values.ask import PodAsk
from kerf.values.policy import Defaults
from kerf.values.vendor import Vendor
from kerf.wire.json import Json, at, items_at
from scheduler.core.known_pods import prefers
from scheduler.state.templates import CONTAINERS, OWN_SPEC, Common, Templates


@dataclass(frozen=True, slots=True)
class Asked:
    """One pod of a question."""

    ask: PodAsk
    labels: Mapping[str, str]
    prefers: bool
    """Whether kube-scheduler may have something to weigh for it; False only if it surely has not."""


class Asks:
    """Reads pods. For one thread."""

    def __init__(self, vendors: tuple[Vendor, ...]) -> None:
        self._templates = Templates(vendors)

    def read(self, pod: Mapping[str, Any], defaults: Defaults) -> Asked:
        """The pod, whose ask has these defaults. Raises WireError."""
        common = self._templates.common(pod)
        ask, _ = self._templates.ask_of(pod, defaults, common)
        labels = {str(key): str(value) for key, value in at(pod, "metadata", "labels").items()}
        return Asked(ask, labels, _template_prefers(common) or prefers(_rest(pod)))


def _template_prefers(common: Common) -> bool:
    known = common.known
    if known.prefers is None:
        known.prefers = prefers(common.part)
    return known.prefers


def _rest(pod: Json) -> dict[str, Any]:
    """What pods of one template may differ in."""
    spec = at(pod, "spec")
    own = {key: spec[key] for key in OWN_SPEC if key in spec}
    for key in CONTAINERS:
        own[key] = [{"volumeMounts": each["volumeMounts"]} for each in items_at(spec, key) if "volumeMounts" in each]
    return {"metadata": pod.get("metadata"), "spec": own, "status": pod.get("status")}
