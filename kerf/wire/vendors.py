"""`kind: CardVendor` (kerf.dev/v1alpha1): a vendor of cards, described in YAML alone, to values.

The vendors that Kerf ships are described in the same way (`kerf/vendors/*/*.yaml`); docs/vendors.md explains every key.
"""

import re

from kerf.values.described import Description, Note, Reading, Source
from kerf.values.policy import Defaults
from kerf.values.slicing import Exactly, Partitions, Size, Slicing, Templates, WholeCard
from kerf.values.words import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.fields import check_kind, flag, known, list_at, object_at, one_of, part_at, text, whole
from kerf.wire.json import Json

KIND = "CardVendor"
_SPEC = (
    "words",
    "units",
    "missing",
    "slicing",
    "inventory",
    "word",
    "recorded",
    "annotations",
    "pluginNotes",
    "allocated",
    "lock",
    "env",
    "labels",
)
_WORDS = ("count", "memory", "cores", "useIds", "avoidIds", "useTypes", "avoidTypes", "containerNameEnv")
_UNITS = ("countPerCard", "memoryMiB", "memoryInBytes", "coresPerCard", "totals")
_RULES = ("sameCard", "linked", "kubeSchedulerCounts")
_INVENTORY = (
    "from", "annotation", "cards", "perCard", "memory", "memoryUnitMiB", "memoryMiB", "id", "model", "slots",
    "twoNumaNodes", "largestMiB",
)  # fmt: skip
_SLICING: dict[str, tuple[str, ...]] = {
    "any": (),
    "whole": (),
    "partitions": ("count",),
    "templates": ("templates", "whole", "alike"),
}
"""What a kind of slicing says of itself."""
_KEY = re.compile(r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
_RESOURCE = re.compile(r"^[a-z0-9.-]{1,253}/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
_OURS = re.compile(r"^([a-z0-9.-]+\.)?kerf\.dev/")
_KUBERNETES = re.compile(r"^([a-z0-9.-]+\.)?kubernetes\.io/")
_NAME = re.compile(r"^[a-z][a-z0-9]{0,39}$")
_LARGEST = 2**31 - 1
_NOTES = tuple(word.value for word in Note)


def parse_vendor(document: object) -> Description:
    """Read a description. An unknown key, a wrong type or an impossible value raises WireError with the fix."""
    top = object_at(document, "vendor")
    known(top, "", ("apiVersion", "kind", "metadata", "spec"))
    check_kind(top, KIND)
    name = text(object_at(top.get("metadata"), "metadata"), "name", "metadata", None)
    if not _NAME.match(name):
        raise WireError("metadata.name", name, "write 1 to 40 lower-case letters and digits, a letter first")
    spec = object_at(top.get("spec"), "spec")
    known(spec, "spec", (*_SPEC, *_RULES))
    notes = _notes(part_at(spec, "annotations", "spec.annotations"))
    allocated = _key(spec, "allocated", "spec") if "allocated" in spec else ""
    if allocated and (allocated, Note.SLICES) not in notes:
        raise WireError("spec.allocated", allocated, "name an annotation of spec.annotations that has slices")
    words = _words(name, spec)
    if chosen := next((key for key, _ in notes if key in words.selection), None):
        raise WireError(
            "spec.annotations", chosen, "pods choose by it (spec.words): only the scheduler may write these"
        )
    return Description(
        name=name,
        words=words,
        slicing=_slicing(object_at(spec.get("slicing"), "spec.slicing")),
        reading=_reading(object_at(spec.get("inventory"), "spec.inventory")),
        word=text(spec, "word", "spec", None) if "word" in spec else "",
        recorded=_recorded(part_at(spec, "recorded", "spec.recorded")),
        notes=notes,
        plugin_notes=_keys(spec, "pluginNotes", "spec"),
        lock=_key(spec, "lock", "spec") if "lock" in spec else "",
        allocated=allocated,
        env=_env(part_at(spec, "env", "spec.env")),
        labels=tuple(_texts(spec, "labels", "spec")),
    )


def _words(name: str, spec: Json) -> ResourceNames:
    where, words = "spec.words", object_at(spec.get("words"), "spec.words")
    known(words, where, _WORDS)
    for key in (key for key in words if key != "containerNameEnv"):
        _key(words, key, where)
    said = {key: text(words, key, where, None) for key in _WORDS if key in words}
    for key in (key for key in ("count", "memory", "cores") if key in said):
        if not _RESOURCE.match(said[key]) or _KUBERNETES.match(said[key]):
            raise WireError(f"{where}.{key}", said[key], "write an extended resource, such as vendor.example/card")
    if "count" not in said:
        raise WireError(f"{where}.count", None, "name the extended resource by which pods ask for cards")
    if twice := next((word for word in said.values() if list(said.values()).count(word) > 1), None):
        raise WireError(where, twice, "give each of them a name of its own")
    units = part_at(spec, "units", "spec.units")
    known(units, "spec.units", _UNITS)
    return ResourceNames(
        vendor=name,
        count=said["count"],
        memory=said.get("memory", ""),
        cores=said.get("cores", ""),
        use_ids=said.get("useIds", ""),
        avoid_ids=said.get("avoidIds", ""),
        use_types=said.get("useTypes", ""),
        avoid_types=said.get("avoidTypes", ""),
        name_env=said.get("containerNameEnv", ""),
        count_unit=whole(units, "countPerCard", "spec.units", 1, (1, 64)),
        memory_unit_mib=whole(units, "memoryMiB", "spec.units", 1, (1, 2**20)),
        memory_in_bytes=flag(units, "memoryInBytes", "spec.units", False),
        card_cores=whole(units, "coresPerCard", "spec.units", 100, (1, 100)),
        totals=flag(units, "totals", "spec.units", False),
        missing=_missing(part_at(spec, "missing", "spec.missing")),
        fills=False,
        scheduled=flag(spec, "kubeSchedulerCounts", "spec", False),
        same_card=flag(spec, "sameCard", "spec", False),
        linked=flag(spec, "linked", "spec", False),
    )


def _missing(missing: Json) -> Defaults:
    known(missing, "spec.missing", ("memoryMiB", "cores"))
    cores = whole(missing, "cores", "spec.missing", 0, (0, 100))
    memory = whole(missing, "memoryMiB", "spec.missing", 0, (0, _LARGEST))
    return Defaults(memory_mib=memory, cores=cores, cards=1, whole_card_cores=False)


def _slicing(slicing: Json) -> Slicing:
    where = "spec.slicing"
    kind = one_of(slicing, "kind", where, None, _SLICING)
    known(slicing, where, ("kind", *_SLICING[kind]))
    match kind:
        case "any":
            return Exactly()
        case "whole":
            return WholeCard()
        case "partitions":
            return Partitions(whole(slicing, "count", where, None, (1, 64)))
        case _:
            return _templates(slicing, where)


def _templates(slicing: Json, where: str) -> Templates:
    listed = list_at(slicing.get("templates"), f"{where}.templates")
    sizes = tuple(
        _size(object_at(item, f"{where}.templates[{i}]"), f"{where}.templates[{i}]") for i, item in enumerate(listed)
    )
    if not sizes:
        raise WireError(f"{where}.templates", listed, "list at least one template, the smallest first")
    try:
        return Templates(sizes, flag(slicing, "whole", where, True), flag(slicing, "alike", where, False))
    except ValueError as error:
        raise WireError(f"{where}.templates", [size.name for size in sizes], str(error)) from error


def _size(item: Json, where: str) -> Size:
    known(item, where, ("name", "memoryMiB", "cores"))
    memory = whole(item, "memoryMiB", where, None, (1, _LARGEST))
    return Size(memory, whole(item, "cores", where, None, (0, 100)), text(item, "name", where, None))


def _reading(item: Json) -> Reading:
    where = "spec.inventory"
    known(item, where, _INVENTORY)
    source = Source(one_of(item, "from", where, None, Source))
    needed = ("annotation",) if source is Source.REGISTER else ("cards", "id", "model")
    for key in (*needed, *(key for key in ("annotation", "cards", "id", "model", "memory") if key in item)):
        _refuse_ours(text(item, key, where, None), f"{where}.{key}")
    card_id = item.get("id", "")
    if card_id and ("{node}" not in str(card_id) or "{index}" not in str(card_id)):
        raise WireError(
            f"{where}.id", card_id, "write a text with {node} and {index}, so that no two cards share an id"
        )
    if source is Source.CAPACITY and not item.get("memory") and not item.get("memoryMiB"):
        raise WireError(f"{where}.memoryMiB", None, "write a card's MiB, or in memory the resource that has them")
    return Reading(
        source=source,
        annotation=str(item.get("annotation", "")),
        cards=str(item.get("cards", "")),
        per_card=whole(item, "perCard", where, 1, (1, 10_000)),
        memory=str(item.get("memory", "")),
        memory_unit_mib=whole(item, "memoryUnitMiB", where, 1, (1, 2**20)),
        memory_mib=whole(item, "memoryMiB", where, 0, (0, _LARGEST)),
        card_id=str(card_id),
        model=str(item.get("model", "")),
        slots=whole(item, "slots", where, 1, (1, 127)),
        two_numa_nodes=flag(item, "twoNumaNodes", where, False),
        largest_mib=whole(item, "largestMiB", where, 0, (0, _LARGEST)),
    )


def _notes(annotations: Json) -> tuple[tuple[str, Note | str], ...]:
    found: list[tuple[str, Note | str]] = []
    for key in annotations:
        value = annotations[key]
        where = f"spec.annotations[{str(key)[:63]}]"
        if not isinstance(key, str) or not _KEY.match(key):
            raise WireError(where, value, "write the key of an annotation")
        _refuse_ours(key, "spec.annotations")
        if isinstance(value, dict) and set(value) == {"text"} and isinstance(value["text"], str):
            found.append((key, value["text"][:253]))
        elif isinstance(value, str) and value in _NOTES:
            found.append((key, Note(value)))
        else:
            raise WireError(where, value, f"use one of {', '.join(_NOTES)}, or {{text: …}} for a fixed text")
    return tuple(found)


def _recorded(recorded: Json) -> tuple[int | None, int | None]:
    where = "spec.recorded"
    known(recorded, where, ("memoryMiB", "cores"))
    memory = whole(recorded, "memoryMiB", where, None, (0, _LARGEST)) if "memoryMiB" in recorded else None
    return memory, whole(recorded, "cores", where, None, (0, 1000)) if "cores" in recorded else None


def _env(env: Json) -> tuple[tuple[str, Note], ...]:
    return tuple((key, Note(one_of(env, key, "spec.env", None, (Note.SLICES, Note.INDEXES, Note.NODE)))) for key in env)


def _key(holder: Json, key: str, where: str) -> str:
    found = text(holder, key, where, None)
    if not _KEY.match(found):
        raise WireError(f"{where}.{key}", found, "write a name of Kubernetes, such as vendor.example/card")
    _refuse_ours(found, f"{where}.{key}")
    return found


def _refuse_ours(name: str, field: str) -> None:
    """What Kerf itself reads and writes, as the grant of a pod, belongs to no vendor."""
    if _OURS.match(name):
        raise WireError(field, name, "names of kerf.dev are Kerf's own: use a domain of the vendor's")


def _keys(holder: Json, key: str, where: str) -> tuple[str, ...]:
    found = _texts(holder, key, where)
    if bad := next((item for item in found if not _KEY.match(item)), None):
        raise WireError(f"{where}.{key}", bad, "write keys of annotations, such as vendor.example/taken")
    for item in found:
        _refuse_ours(item, f"{where}.{key}")
    return tuple(found)


def _texts(holder: Json, key: str, where: str) -> list[str]:
    listed = list_at(holder.get(key), f"{where}.{key}")
    if not all(isinstance(item, str) and 0 < len(item) <= 253 for item in listed):
        raise WireError(f"{where}.{key}", listed, "write a list of texts")
    return [str(item) for item in listed]
