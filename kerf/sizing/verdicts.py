"""Whether a catalogue's entry can run as it is written, why not, and what would."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerf.sizing.cards import card_named
from kerf.sizing.estimate import MIB, Estimate, Model, estimate, longest_context
from kerf.sizing.launch import ADAPTERS, ALIASES, ASKED, COPIES, at_load, draft_in
from kerf.sizing.modelhub import Deployment, Json, ModelSpec, name_of, parse_spec
from kerf.sizing.options import number, options
from kerf.sizing.overheads import CONTEXT_MIB
from kerf.sizing.quant import PLAIN
from kerf.sizing.request import SGLANG, VERSIONS, VLLM, Ask
from kerf.sizing.semver import parse_version, satisfies
from kerf.sizing.uncounted import uncounted
from kerf.wire.errors import WireError

UTILIZATION = 0.92
"""vLLM 0.33.0's default share of the slice."""
FITS_ITSELF, SHORTEST = frozenset({"-1", "auto"}), 256
"""What --max-model-len says for vLLM to take what fits, and a length that is always one."""
Finder = Callable[[str], Model | None]
"""A model by its repository's name, None where its shape is not at hand."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer on one entry."""

    name: str
    ok: bool
    reason: str = ""


def judge_all(documents: Sequence[Json], find: Finder, card: str = "", version: str = "") -> list[Verdict]:
    """Whether each of several entries can run. Two that differ under one name get a remark."""
    found = [judge(one, name_of(one, i), find, card, version) for i, one in enumerate(documents)]
    first: dict[str, Json] = {}
    for i, (one, verdict) in enumerate(zip(documents, found, strict=True)):
        if first.setdefault(verdict.name, one) != one:
            remark = f"another entry is called {verdict.name} too and differs: readers keep one of them"
            found[i] = replace(verdict, reason="; ".join(filter(None, (verdict.reason, remark))))
    return found


def judge(document: object, name: str, find: Finder, card: str = "", version: str = "") -> Verdict:
    """Whether one entry can run. Never raises for what the entry says."""
    try:
        spec = parse_spec(document)
        model = find(spec.repository)
    except WireError as error:
        return Verdict(name, ok=False, reason=str(error))
    problems, remarks = [], []
    for one in spec.deployments:
        try:
            remark = _deployment(one, spec, model, card, version)
        except WireError as error:
            problems.append(f"{one.where}: {error}")
        else:
            remarks += [remark] if remark else []
    found = problems or list(dict.fromkeys(remarks))
    return Verdict(spec.name, ok=not problems, reason="; ".join(found))


def _deployment(one: Deployment, spec: ModelSpec, model: Model | None, card: str, version: str) -> str:
    """A remark on a deployment that can run. Raises WireError for one that cannot."""
    if one.runtime not in {VLLM, SGLANG}:
        return f"runtime {one.runtime} is not sized: only the form was checked"
    have = version or VERSIONS[one.runtime]
    if not satisfies(parse_version(have, "runtime-version"), one.version, "versionRequired"):
        raise WireError(
            "versionRequired", one.version, f"{one.runtime} is {have}; use a version that the entry accepts"
        )
    if not one.on_nvidia:
        return f"{one.card or 'cpu'} is not sized: only the form was checked"
    if card and one.card_mib > card_named(card).usable:
        fix = f"{card} has {card_named(card).usable:,} MiB; ask for at most {card_named(card).usable * MIB // 10**9} GB"
        raise WireError("perGPUMemoryGB", f"{one.card_gb} ({one.card_mib:,} MiB)", fix)
    if model is None:
        return f"the shape of {spec.repository} is not in the catalogue: only the form was checked"
    return "; ".join(filter(None, (_sized(one, model, version), _not_counted(one, model))))


def _not_counted(one: Deployment, model: Model) -> str:
    given = options(one.args, one.runtime)
    adapters = next(((name, given[name]) for name in ADAPTERS if one.runtime == SGLANG and name in given), None)
    found = uncounted(given, one.runtime, model.shape) or draft_in(given, one.runtime) or adapters
    return f"--{found[0]} {found[1]} may take more than was counted" if found else ""


def _sized(one: Deployment, model: Model, version: str) -> str:
    given = options(one.args, one.runtime)
    ask = _ask(one, given, version)
    if model.quant is PLAIN:
        ask = replace(ask, quantization=at_load(given, one.runtime))
    try:
        found = estimate(model, replace(ask, card_mib=None))
    except WireError as error:
        raise WireError(error.field, error.value, f"{error.fix}{_would_run(model, ask, one)}") from error
    share = _share(given, one.runtime)
    room = int(one.card_mib * share)
    needed = -(-sum(term.low for term in found.terms if term.name != "CUDA context") // MIB)
    if needed > room:
        raise WireError("perGPUMemoryGB", one.card_gb, _too_small(found, one, room, needed))
    if found.slice_mib > one.card_mib:
        return f"tight: {found.slice_mib:,} MiB per card at the upper end of the ranges, {one.card_mib:,} asked for"
    return ""


def _ask(one: Deployment, given: dict[str, str], version: str) -> Ask:
    def asked(field: str) -> int | None:
        option = ASKED[one.runtime].get(field)
        return number(given, (option, *ALIASES[one.runtime].get(option, ())), one.runtime) if option else None

    copies = 1 if "enable-dp-attention" in given else number(given, COPIES[one.runtime], one.runtime) or 1
    pp = asked("pp") or 1
    tp = asked("tp") or max(1, one.cards // (pp * copies))
    if tp * pp * copies != one.cards:
        more = f" x {copies} copies" if copies > 1 else ""
        fix = f"tp {tp} x pp {pp}{more} takes {tp * pp * copies} cards; make them equal"
        raise WireError("gpuCount", one.cards, fix)
    experts = (asked("ep") or 1) > 1 or (
        one.runtime == VLLM and any(name in given for name in ("enable-expert-parallel", "ep"))
    )
    fits_itself = one.runtime == VLLM and given.get("max-model-len") in FITS_ITSELF
    ask = Ask(
        runtime=one.runtime,
        version=version,
        max_len=SHORTEST if fits_itself else asked("max_len"),
        tp=tp,
        pp=pp,
        ep=tp if experts else 1,
        kv_dtype=given.get("kv-cache-dtype", "auto"),
    )
    if one.runtime == SGLANG:
        return ask
    ask = replace(ask, batched_tokens=asked("batched_tokens") or ask.batched_tokens)
    if "enable-lora" not in given:
        return ask
    return replace(ask, loras=asked("loras") or 1, lora_rank=asked("lora_rank") or ask.lora_rank)


def _share(given: dict[str, str], runtime: str) -> float:
    key = "mem-fraction-static" if runtime == SGLANG else "gpu-memory-utilization"
    if key not in given:
        return 1.0 if runtime == SGLANG else UTILIZATION
    try:
        share = float(given[key])
    except ValueError as error:
        raise WireError(f"--{key}", given[key], "write a number from 0 to 1") from error
    if not 0 < share <= 1:
        raise WireError(f"--{key}", given[key], "write a number above 0 and at most 1")
    return share


def _too_small(found: Estimate, one: Deployment, room: int, needed: int) -> str:
    fix = f"needs {needed:,} MiB of {room:,} per card for {found.max_len:,} tokens"
    longest = longest_context(found, room + CONTEXT_MIB[0])
    if longest:
        return f"{fix}; --max-model-len {longest} would run"
    return f"{fix}{_would_run(found.model, found.ask, one)}"


def _would_run(model: Model, ask: Ask, one: Deployment) -> str:
    """The fewest cards of this size on which the model runs at all."""
    for tp, pp in ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4)):
        for ep in (1, tp) if model.shape.experts and tp > 1 else (1,):
            try:
                found = estimate(model, replace(ask, tp=tp, pp=pp, ep=ep, max_len=None, card_mib=None))
            except WireError:
                continue
            how = f"; {tp * pp} cards (tp {tp}, pp {pp}{', expert parallel' if ep > 1 else ''}) would run"
            if found.slice_mib <= one.card_mib:
                return how
            longest = longest_context(found, one.card_mib)
            if longest:
                return f"{how} with --max-model-len {longest}"
    return "; no split over 32 such cards would run"
