"""ModelHub's catalogue entries (model.hydra.io/v1alpha1) as they are: unknown keys stay, a GB is 10^9 bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.fields import list_at, object_at

API, KIND = "model.hydra.io/v1alpha1", "ModelSpec"
NVIDIA = frozenset({"gpu", "vgpu", "nvidia-vgpu", "nvidia-gpu"})
MOST_SPECS, MOST_DEPLOYMENTS, MOST_ARGS = 10_000, 64, 1000
MOST_GB = 10_000
LISTS = ("items", "models", "specs")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One way in which an entry wants to run."""

    where: str
    runtime: str
    version: str
    card: str
    cards: int
    card_gb: int
    args: tuple[str, ...]

    @property
    def card_mib(self) -> int:
        """10^9 bytes to MiB, rounded down: 80 GB is 76,294 MiB, and an 80 GB H100 has 81,559; 80 GiB would fit none."""
        return self.card_gb * 10**9 // 2**20

    @property
    def on_nvidia(self) -> bool:
        """Whether it wants NVIDIA's cards."""
        return self.card in NVIDIA


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry. `document` is all of it, unknown keys included."""

    name: str
    repository: str
    deployments: tuple[Deployment, ...]
    document: Json


def specs_of(documents: Iterable[object]) -> list[Json]:
    """The entries of a file: one, several documents, a list, or a merged index. Raises WireError."""
    found: list[Json] = []
    for document in documents:
        if document is None:
            continue
        if isinstance(document, list):
            found += specs_of(document)
            continue
        item = object_at(document, "file")
        inner = next((item[key] for key in LISTS if isinstance(item.get(key), list)), None)
        if inner is not None and "spec" not in item:
            found += specs_of(inner)
        elif (
            "spec" not in item
            and "kind" not in item
            and item
            and all(isinstance(one, Mapping) for one in item.values())
        ):
            found += specs_of(list(item.values()))
        else:
            found.append(item)
        if len(found) > MOST_SPECS:
            raise WireError("file", f"{len(found)} entries", f"list at most {MOST_SPECS}")
    return found


def name_of(item: Json, position: int) -> str:
    """What to call an entry, whatever is wrong with it."""
    meta = item.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else None
    return name[:253] if isinstance(name, str) and name else f"entry {position}"


def parse_spec(document: object) -> ModelSpec:
    """One entry. Raises WireError that names the field, the value and the fix."""
    item = object_at(document, "ModelSpec")
    for key, wanted in (("apiVersion", API), ("kind", KIND)):
        if item.get(key) != wanted:
            raise WireError(key, item.get(key), f"write {wanted}")
    name = _text(object_at(item.get("metadata"), "metadata"), "name", "metadata")
    spec = object_at(item.get("spec"), "spec")
    source = object_at(spec.get("source"), "spec.source")
    places = {}
    for place in ("huggingface", "modelscope"):
        where = f"spec.source.{place}"
        places[place] = _text(object_at(source.get(place), where), "name", where)
    listed = list_at(spec.get("deployments"), "spec.deployments")
    if not 1 <= len(listed) <= MOST_DEPLOYMENTS:
        raise WireError("spec.deployments", f"{len(listed)} entries", f"list from 1 to {MOST_DEPLOYMENTS}")
    deployments = tuple(_deployment(one, f"spec.deployments[{i}]") for i, one in enumerate(listed))
    return ModelSpec(name, places["huggingface"], deployments, item)


def _deployment(value: object, where: str) -> Deployment:
    item = object_at(value, where)
    needs_at = f"{where}.resourceRequirements"
    needs = object_at(item.get("resourceRequirements"), needs_at)
    card = _text(needs, "gpuType", needs_at, default="")
    on_cards = card not in {"", "cpu"}
    return Deployment(
        where=where,
        runtime=_text(item, "runtime", where),
        version=_text(item, "versionRequired", where, default=""),
        card=card,
        cards=_whole(needs, "gpuCount", needs_at, (1, 1024)) if on_cards else 0,
        card_gb=_whole(needs, "perGPUMemoryGB", needs_at, (1, MOST_GB)) if on_cards else 0,
        args=_args(item.get("customRuntimeArgs"), f"{where}.customRuntimeArgs"),
    )


def _text(item: Json, key: str, where: str, default: str | None = None) -> str:
    value = item.get(key, default)
    if not isinstance(value, str) or (not value and default is None) or len(value) > 253:
        raise WireError(f"{where}.{key}", value, "write a text of 1 to 253 characters")
    return value


def _whole(item: Json, key: str, where: str, bounds: tuple[int, int]) -> int:
    value = item.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not bounds[0] <= value <= bounds[1]:
        raise WireError(f"{where}.{key}", value, f"write a whole number from {bounds[0]} to {bounds[1]}")
    return value


def _args(value: object, where: str) -> tuple[str, ...]:
    found = list_at(value, where)
    if len(found) > MOST_ARGS or not all(isinstance(one, str | int | float) for one in found):
        raise WireError(where, value, f"write a list of at most {MOST_ARGS} texts")
    return tuple(str(one) for one in found)
