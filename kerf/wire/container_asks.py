"""One container's JSON to what it asks of one vendor, in that vendor's words and units."""

from collections.abc import Callable
from dataclasses import replace

from kerf.values.ask import ContainerAsk, Stage
from kerf.values.policy import Defaults
from kerf.values.units import MIB, parse_quantity, parse_whole, to_mib
from kerf.values.words import CoresError, ResourceNames, Said
from kerf.wire.errors import WireError
from kerf.wire.json import EMPTY, Json, at

MOST_CARDS = 64
"""Cards one container may ask for; more than any machine has, small enough to bound every loop."""
MOST_MEMORY_MIB = 2**24
"""16 TiB, more than any card has: a larger number was meant as bytes ("1Gi" is 1,073,741,824)."""


def asks_for(amounts: Json, names: ResourceNames) -> bool:
    """Whether a container with these amounts asks for cards of a vendor: more than a priority, and not 0 cards."""
    return bool(_given(amounts, names)) and str(amounts.get(names.count)) != "0"


def parse_container(
    container: Json, stage: Stage, names: ResourceNames, defaults: Defaults, notes: Json = EMPTY
) -> ContainerAsk | None:
    """What one container of a pod with these annotations wants of one vendor, None if nothing. Raises WireError."""
    limits = amounts_of(container)
    given = _given(limits, names)
    if not given:
        return None
    where = resources_field(container, stage)
    part = _part_hint(names.memory_percent)
    said = _said(given, names, where)
    percent = whole_of(given, names.memory_percent, where, most=100, hint=part)
    if said.count == 0:
        if said.memory_mib or percent or said.cores:
            fix = f"ask for at least one card, or drop {' and '.join(filter(None, (names.memory, names.cores)))}"
            raise WireError(f"{where}[{names.count}]", 0, fix)
        return None
    ask = _with_defaults(said, percent, names, names.missing or defaults)
    ask = replace(ask, name=str(container.get("name", "")), stage=stage)
    return _resolved(ask, said, names, (where, given, notes))


def _given(amounts: Json, names: ResourceNames) -> Json:
    """The amounts in a vendor's words; none where only a priority is named."""
    given = {name: amounts[name] for name in names.all if name in amounts}
    return given if given.keys() - {names.priority} else EMPTY


def _said(given: Json, names: ResourceNames, where: str) -> Said:
    part = _part_hint(names.memory_percent) if names.memory_percent else None
    count = whole_of(given, names.count, where, most=MOST_CARDS * names.count_unit, hint=part)
    memory = _memory(given, names, where)
    if names.totals and memory and count:
        memory //= count
    cores = whole_of(given, names.cores, where, hint=_part_hint(names.cores) if names.card_cores == 100 else None)
    if names.totals and cores and count:
        cores //= count
    return Said(count, memory, cores)


def _with_defaults(said: Said, percent: int | None, names: ResourceNames, defaults: Defaults) -> ContainerAsk:
    memory = said.memory_mib
    if not memory and not percent:
        memory, percent = (defaults.memory_mib, None) if defaults.memory_mib else (None, 100)
    elif memory:
        percent = None
    else:
        memory = None
    if said.cores is None:
        whole = percent == 100 and defaults.whole_card_cores
        cores = 100 if whole else defaults.cores
    else:
        cores = names.percent(said.cores)
    return ContainerAsk(
        name="",
        cards=-(-said.count // names.count_unit) if said.count else defaults.cards,
        memory_mib=memory,
        memory_percent=percent,
        cores=min(cores, 100),
        vendor=names.vendor,
    )


def _resolved(ask: ContainerAsk, said: Said, names: ResourceNames, written: tuple[str, Json, Json]) -> ContainerAsk:
    """The ask by the vendor's own rules. Raises WireError."""
    where, given, notes = written
    try:
        ask = replace(ask, group=names.group_of(notes))
    except ValueError as error:
        raise WireError(f"metadata.annotations[{names.group_key}]", notes.get(names.group_key), str(error)) from error
    field = names.memory if names.memory in given else next(iter(given))
    try:
        ask = names.resolve(ask, said)
        refusal = names.refuses(ask)
    except ValueError as error:
        refusal = str(error)
        field = names.cores if isinstance(error, CoresError) and names.cores in given else field
    if refusal:
        raise WireError(f"{where}[{field}]", given[field], refusal)
    return ask


def resources_field(container: Json, stage: Stage) -> str:
    """Where a container's limits stand, as people write a field's path."""
    part = "containers" if stage is Stage.APP else "initContainers"
    return f"spec.{part}[{str(container.get('name', '?'))[:63]}].resources.limits"


def amounts_of(container: Json) -> Json:
    """What a container requests; where it limits a resource too, the limit."""
    resources = at(container, "resources")
    return {**at(resources, "requests"), **at(resources, "limits")}


def whole_of(
    given: Json, name: str, where: str, *, most: int = 2**31 - 1, hint: Callable[[object], str] | None = None
) -> int | None:
    """A whole number among the given resources; None where it is not given. Raises WireError."""
    if name not in given:
        return None
    try:
        return parse_whole(given[name], most=most)
    except ValueError as error:
        fix = f"write a whole number from 0 to {most} ({hint(given[name]) if hint else ''}{error})"
        raise WireError(f"{where}[{name}]", given[name], fix) from error


def _memory(given: Json, names: ResourceNames, where: str) -> int | None:
    """MiB that a container asks."""
    if names.memory not in given:
        return None
    value, unit = given[names.memory], names.memory_unit_mib
    try:
        mib = names.mib(value)
        if mib > MOST_MEMORY_MIB:
            raise ValueError(f"{value} is outside 0..{MOST_MEMORY_MIB // unit}")
    except ValueError as error:
        hint = _mib_hint(value) if unit == 1 else _unit_hint(value, unit)
        fix = f"write a whole number from 0 to {MOST_MEMORY_MIB // unit} ({hint}{error})"
        raise WireError(f"{where}[{names.memory}]", value, fix) from error
    return mib


def _mib_hint(value: object) -> str:
    """For "8Gi" where MiB are meant, the number the user wanted."""
    try:
        amount = parse_quantity(value)
    except ValueError:
        return ""
    return f"the unit is MiB, so {to_mib(value)}; " if amount > MOST_MEMORY_MIB else ""


def _unit_hint(value: object, unit: int) -> str:
    """For "8Gi" where units of several MiB are meant, how many they are."""
    try:
        mib = -(-parse_quantity(value) // MIB)
    except ValueError:
        mib = 0
    return f"the unit is {unit} MiB{f', so {-(-mib // unit)}' if mib > 1 else ''}; "


def _part_hint(name: str) -> Callable[[object], str]:
    """For 0.5 where a whole number is wanted: the resource in which a part of a card is written, and the number."""

    def hint(value: object) -> str:
        try:
            amount = parse_quantity(value)
        except ValueError:
            return ""
        return f"{float(amount):g} of a card is {name}: {max(int(amount * 100), 1)}; " if 0 < amount < 1 else ""

    return hint
