"""The estimate's ranges beside weights and cache, corrected by lessons.

    need    the most that a server held, or the slice that refused one memory, and a margin
    floor   the highest need of servers with no more load than is asked for
    ceiling the lowest need of settled lessons with at least the load that is asked for; else the estimate

The larger one counts, at most twice the estimate: a single odd pod must not take the whole card from all others.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kerf.sizing.request import SGLANG
from kerf.sizing.term import Term
from kerf.values.learned import Lesson, Setup, Taught

MIB = 2**20
LEAST_MARGIN_MIB = 128
MOST_TIMES = 2
"""Times the estimate that lessons may make of it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The term that takes the place of the ranges, and what is to be said about it."""

    terms: tuple[Term, ...]
    notes: tuple[str, ...] = ()
    lesson: Lesson | None = None
    """The one that decides."""


def margin(mib: int) -> int:
    """What is added to a peak: a tenth, and never little."""
    return max(LEAST_MARGIN_MIB, -(-mib // 10))


def need_of(lesson: Lesson) -> int:
    """MiB beside weights and cache below which no such server is sized.

    What refused memory needed more, nobody knows how much more. What ended with an error needed what it had at least.
    """
    grown = [mib + margin(mib) for mib in (lesson.beside_mib, lesson.refused_mib) if mib]
    return max([*grown, lesson.failed_mib])


def corrected(terms: tuple[Term, ...], taught: Taught | None, setup: Setup, max_len: int) -> Correction:
    """The ranges as lessons of the same split and formats have them. `setup` is the one that is asked for."""
    alike = [lesson for lesson in taught.lessons if _alike(lesson.setup, setup)] if taught else []
    if taught is None or not alike:
        return Correction(terms, ("Nothing was learned about this setup on such a card.",) if taught else ())
    estimated = -(-sum(term.high for term in terms) // MIB)
    above = [one for one in alike if _covers(one, setup, max_len) and _settled(one, taught)]
    below = [one for one in alike if _within(one.setup, setup)]
    upper, lower = min(above, key=need_of, default=None), max(below, key=need_of, default=None)
    ceiling = min(need_of(upper), estimated) if upper else estimated
    floor = need_of(lower) if lower else 0
    wanted = max(ceiling, floor)
    if wanted == estimated:
        return Correction(terms, (_unused(alike, taught),))
    decides = lower if lower and floor >= ceiling else upper
    most = MOST_TIMES * estimated
    notes = (f"More was needed than the {most:,} MiB that lessons may add up to: {wanted:,} MiB.",)
    low = min(wanted, most) * MIB
    assert decides is not None
    return Correction((_term(decides, low),), notes if wanted > most else (), decides)


def _term(lesson: Lesson, size: int) -> Term:
    held = max(lesson.beside_mib, lesson.refused_mib)
    what = "was refused memory at" if lesson.refused_mib >= max(lesson.beside_mib, 1) else "held at most"
    if lesson.failed_mib > held + margin(held):
        formula = f"{lesson.failed_mib:,} MiB, in which a server ended with an error"
    else:
        formula = f"a server {what} {held:,} MiB, and {margin(held):,}"
    return Term("learned: all else", size, size, formula, seen_by(lesson))


def seen_by(lesson: Lesson) -> str:
    """Who taught a lesson, in a few words."""
    pods = f"{lesson.all_pods:,} pod{'' if lesson.all_pods == 1 else 's'}"
    setup = lesson.setup
    return f"{pods}, {lesson.all_hours:,.0f} h of {setup.runtime} {setup.release} on {setup.card}"


def _unused(alike: Iterable[Lesson], taught: Taught) -> str:
    if any(_settled(one, taught) for one in alike):
        return "What was learned does not change this estimate."
    need = f"{taught.least_pods} pods and {taught.least_hours:g} hours"
    return f"Too little was seen to make this slice smaller: that takes {need}."


def _settled(lesson: Lesson, taught: Taught) -> bool:
    """Whether a lesson may make a slice smaller. SGLang's never does: it sets its reserve aside by its own formula."""
    enough = lesson.all_pods >= taught.least_pods and lesson.all_hours >= taught.least_hours
    return enough and lesson.beside_mib > 0 and lesson.setup.runtime != SGLANG


def _alike(one: Setup, other: Setup) -> bool:
    split = one.tp == other.tp and one.pp == other.pp and one.ep == other.ep
    engine = one.runtime == other.runtime and one.release == other.release
    return split and engine and one.quantization == other.quantization and one.kv_dtype == other.kv_dtype


def _covers(lesson: Lesson, setup: Setup, max_len: int) -> bool:
    return lesson.max_len >= max_len and _within(setup, lesson.setup)


def _within(one: Setup, other: Setup) -> bool:
    """Whether one setup has no more load than the other."""
    return one.concurrency <= other.concurrency and one.batched_tokens <= other.batched_tokens
