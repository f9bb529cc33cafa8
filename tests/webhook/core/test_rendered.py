"""What `kerf model render` writes is admitted by the webhook as it is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kerf.catalogue import shipped
from kerf.sizing.estimate import estimate
from kerf.sizing.fetch import Fetch
from kerf.sizing.manifest import Wanted, workload
from kerf.sizing.named import KEYS, MODEL
from kerf.sizing.request import Ask
from kerf.values.units import parse_quantity
from kerf.vendors.registry import VENDORS
from kerf.wire.admission import Review
from kerf.wire.errors import WireError
from tests.webhook.json_patch import apply
from webhook.core.mutate import mutate
from webhook.core.settings import Settings

Json = dict[str, Any]
SETTINGS = Settings(VENDORS, catalogue=shipped())
NAMES = [row.name for row in shipped().rows]
CARDS = ["", "L40S", "A100-80GB", "H100", "H200", "B200"]
asks = st.builds(
    Ask,
    runtime=st.sampled_from(["vllm", "sglang"]),
    max_len=st.integers(1, 512) | st.integers(1, 40_960) | st.none(),
    concurrency=st.integers(1, 64) | st.integers(1, 8192),
    tp=st.sampled_from([None, None, 1, 2, 3, 4, 8]),
    pp=st.sampled_from([1, 1, 1, 2, 3]),
    ep=st.sampled_from([1, 1, 2, 4, 8]),
    kv_dtype=st.sampled_from(["auto", "fp8", "fp8_e4m3", "bfloat16"]),
    quantization=st.sampled_from(["", "", "fp8", "bitsandbytes"]),
    batched_tokens=st.sampled_from([2048, 512, 8192]),
    card=st.sampled_from(CARDS),
)
wishes = st.fixed_dictionaries({
    "claim": st.sampled_from(["", "weights"]),
    "cache": st.sampled_from(["", "/var/lib/models"]),
    "replicas": st.integers(1, 3),
    "serves": st.booleans(),
    "fetch": st.booleans(),
})  # fmt: skip


def rendered(name: str, ask: Ask, wishes: Json) -> list[Json]:
    """The pods' templates. Raises WireError where the model cannot run so."""
    model, row = shipped().model(name), shipped().find(name)
    assert model is not None
    assert row is not None
    more = {
        **wishes,
        "serves": name if wishes["serves"] else "",
        "fetch": Fetch("huggingface", row.repository or "org/model") if wishes["fetch"] else None,
    }
    work = workload(estimate(model, ask), Wanted(name.replace(".", "-"), row.repository or name, **more))
    inner = work["spec"].get("leaderWorkerTemplate")
    return [inner["leaderTemplate"], inner["workerTemplate"]] if inner else [work["spec"]["template"]]


def admitted(template: Json, **notes: str) -> Json:
    meta = {"name": "p", "namespace": "default", **template["metadata"]}
    pod = {"metadata": {**meta, "annotations": {**meta["annotations"], **notes}}, "spec": template["spec"]}
    answer = mutate(Review("u", "CREATE", "Pod", "default", "joe", pod, {}), SETTINGS)
    assert answer.allowed, answer.message
    assert answer.warnings == ()
    found: Json = apply(pod, answer.patch)
    return found


def as_read(spec: Json) -> Json:
    """A pod's spec without what every pod with slices gets, and with amounts as numbers."""
    containers = []
    for container in spec["containers"]:
        limits = {name: int(parse_quantity(str(value))) for name, value in container["resources"]["limits"].items()}
        limits.setdefault("nvidia.com/gpucores", 0)
        containers.append({**container, "resources": {"limits": limits}})
    return {key: value for key, value in spec.items() if key != "schedulerName"} | {"containers": containers}


@given(st.sampled_from(NAMES), asks, wishes)
def test_what_render_writes_is_admitted_as_it_is(name: str, ask: Ask, wishes: Json) -> None:
    try:
        templates = rendered(name, ask, wishes)
    except WireError:
        return  # what cannot run is not rendered

    for template in templates:
        assert as_read(admitted(template)["spec"]) == as_read(template["spec"])


@given(st.sampled_from(NAMES), asks, wishes)
def test_a_rendered_pod_that_names_its_model_and_load_lacks_nothing(name: str, ask: Ask, wishes: Json) -> None:
    try:
        template, *more = rendered(name, ask, wishes)
    except WireError:
        return
    if more:
        return  # the annotation is about one pod

    assert as_read(admitted(template, **{MODEL: annotation(name, ask)})["spec"]) == as_read(template["spec"])


def annotation(name: str, ask: Ask) -> str:
    fields = {key: field for key, (field, _) in KEYS.items() if key != "batched-tokens"}  # at least what a step takes
    given = {key: getattr(ask, field) for key, field in fields.items() if getattr(ask, field) not in {None, ""}}
    return ";".join([name, *(f"{key}={value}" for key, value in given.items())])
