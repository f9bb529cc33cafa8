"""`kerf model estimate`: the slice that a model needs, as a sum that adds up."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerf.wire.errors import WireError
from kerfctl.model.arguments import add_ask, add_card, ask_of, readings
from kerfctl.model.lessons import add_learned, lessons_for, no_lessons

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`estimate`."""
    parser = verbs.add_parser("estimate", help="MiB per card, with every term of the sum")
    add_ask(parser)
    add_card(parser)
    add_learned(parser, kubeconfig=True)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate and print. A refusal is an answer under --json, and exits 1."""
    from kerf.sizing.estimate import estimate
    from kerfctl.errors import CliError
    from kerfctl.model.sources import load_row

    model = None
    try:
        row = load_row(args.model)
        model, ask, lessons = row.model, ask_of(args), lessons_for(args, row.name)
        found = estimate(model, ask, None if lessons is no_lessons else lessons(ask.card))
    except (WireError, CliError) as error:
        return _refused(args, model, error)
    if args.json:
        print(json.dumps(_json(found) | (_learned_json(found) if lessons is not no_lessons else {})))
    else:
        _print(found, args)
    return 0


def _refused(args: argparse.Namespace, model: Any, error: Exception) -> int:
    if not args.json:
        raise error
    print(json.dumps({
        "params": None if model is None else model.shape.params,
        "weights_mib_per_card": None,
        "kv_bytes_per_token": None,
        "slice_mib": None,
        "cards": None,
        "args": None,
        "refused": str(error),
    }))  # fmt: skip
    return 1


def _json(found: Any) -> dict[str, Any]:
    return {
        "params": found.model.shape.params,
        "weights_mib_per_card": found.weights_mib,
        "kv_bytes_per_token": found.plan.token_bytes,
        "slice_mib": found.slice_mib,
        "cards": found.ranks.cards,
        "args": list(found.args),
        "refused": None,
    }


def _learned_json(found: Any) -> dict[str, Any]:
    """What was learned and counts, null where nothing does."""
    from kerf.sizing.taught import need_of
    from kerf.wire.learned import lesson_object

    lesson = found.lesson
    return {"learned": None if lesson is None else {**lesson_object(lesson), "need_mib": need_of(lesson)}}


def _print(found: Any, args: argparse.Namespace) -> None:
    from kerf.values.units import show
    from kerfctl.report import Sheet, say

    shape, ranks = found.model.shape, found.ranks
    title = f"{args.model}: {shape.family}, {show(shape.params)} parameters, {found.model.quant.name} weights"
    sheet = Sheet(title, ("MiB per card", ">at least", ">counted", "formula", "source"))
    mib = 2**20
    for term in found.terms:
        sheet.add(term.name, f"{term.low / mib:,.1f}", f"{term.high / mib:,.1f}", term.formula, term.source)
    sheet.add_line()
    low = sum(term.low for term in found.terms) / mib
    sheet.add("slice", f"{low:,.1f}", f"{found.slice_mib:,}", "sum, rounded up", "")
    sheet.print()
    cards = f"{ranks.cards} card{'s' if ranks.cards > 1 else ''} (tp {ranks.tp}, pp {ranks.pp})"
    load = f"{found.max_len:,} tokens a request, {found.ask.concurrency} at once: {found.kv_tokens:,} tokens of KV"
    cores = f"{found.cores} % of each card" if found.cores else "best effort"
    say(f"{cards}, {load}, {found.plan.token_bytes:,} B for each token more. Cores: {cores}.")
    say(f"{found.ask.runtime} {found.ask.version}: {' '.join(found.args)}")
    say(*readings(args), *found.notes, *_hint(found))


def _hint(found: Any) -> list[str]:
    """How much of the cache was ever used: a hint for the next estimate, never a smaller slice by itself."""
    lesson = found.lesson
    if lesson is None or lesson.kv_percent is None or lesson.kv_percent > 75:
        return []
    enough = max(1, -(-lesson.setup.concurrency * lesson.kv_percent // 100))
    used = f"Its requests used at most {lesson.kv_percent} % of the cache of {lesson.setup.concurrency} at once"
    return [f"{used}: --concurrency {enough} would have held them."]
