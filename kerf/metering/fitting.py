"""What fits into one record: etcd takes no object of more than 1.5 MiB, and names may be as long as people make them.

What does not fit is summed as OTHER, the smallest first, so that sums stay whole. Pure.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from kerf.metering.use import Line, Use, Who
from kerf.values.engine import Tokens
from kerf.values.usage import CounterRow, TokenPrice

OTHER = "(other)"
MOST_ROWS = 2000
FEW = 200
"""So few rows fit whatever their names are."""
ROWS_BYTES, TOKENS_BYTES = 900_000, 350_000
"""Of the record of a tenant or namespace."""
COUNTERS_BYTES, PRICES_BYTES = 1_000_000, 200_000
"""Of the record of the cards. So many counters are those of some five thousand engines."""
MOST_GAPS = 200
USE, COUNTS, PRICE = 300, 130, 150
"""Bytes of a row beside its texts, at most: its keys and numbers."""
TokenKey = tuple[str, str, str, str]
"""Tenant, namespace, workload, served model."""
T = TypeVar("T")


def fold(lines: Mapping[Line, Use]) -> Mapping[Line, Use]:
    """At most MOST_ROWS lines; the smallest beyond are summed by namespace and kind, as the workload OTHER."""
    if len(lines) <= FEW:
        return lines
    ranked = sorted(lines, key=lambda line: (-lines[line].vgpu_us, line))
    kept = fitting(ranked, ROWS_BYTES, lambda line: _weight(USE, *_texts(line)), MOST_ROWS)
    found = {line: lines[line] for line in kept}
    for who, kind in ranked[len(kept) :]:
        key = (Who(who.tenant, who.namespace, OTHER, ""), kind)
        found[key] = found.get(key, Use()) + lines[who, kind]
    return found


def fold_tokens(counts: Mapping[TokenKey, Tokens]) -> Mapping[TokenKey, Tokens]:
    """The same for tokens: the smallest beyond are summed by namespace, as the workload and the model OTHER."""
    if len(counts) <= FEW:
        return counts
    ranked = sorted(counts, key=lambda key: (-sum(_amounts(counts[key])), key))
    kept = fitting(ranked, TOKENS_BYTES, lambda key: _weight(COUNTS, *key), MOST_ROWS)
    found = {key: counts[key] for key in kept}
    for tenant, namespace, *rest in ranked[len(kept) :]:
        key = (tenant, namespace, OTHER, OTHER)
        found[key] = found.get(key, Tokens()) + counts[tenant, namespace, rest[0], rest[1]]
    return found


def fit_counters(rows: Sequence[CounterRow]) -> tuple[CounterRow, ...]:
    """Those of which the next leader counts on."""
    return tuple(fitting(rows, COUNTERS_BYTES, lambda row: _weight(COUNTS, row.uid, row.started, row.model), len(rows)))


def fit_prices(prices: Sequence[TokenPrice]) -> tuple[TokenPrice, ...]:
    """Those that were measured before those of earlier times."""
    ranked = sorted(prices, key=lambda price: not price.measured)
    return tuple(fitting(ranked, PRICES_BYTES, lambda price: _weight(PRICE, price.model), len(ranked)))


def fit_gaps(gaps: Sequence[str]) -> tuple[str, ...]:
    """The first ones, and how many more there are."""
    if len(gaps) <= MOST_GAPS:
        return tuple(gaps)
    return (*gaps[: MOST_GAPS - 1], f"{len(gaps) - MOST_GAPS + 1:,} sentences more of this kind are left out")


def fitting(items: Iterable[T], most_bytes: int, weight: Callable[[T], int], most: int) -> list[T]:
    """The first items that fit together."""
    found: list[T] = []
    left = most_bytes
    for item in items:
        left -= weight(item)
        if left < 0 or len(found) >= most:
            return found
        found.append(item)
    return found


def _texts(line: Line) -> tuple[str, ...]:
    who, kind = line
    return who.namespace, who.workload, who.model, kind.card_class, kind.card_model, kind.supply, kind.region


def _amounts(tokens: Tokens) -> tuple[int, int, int]:
    return tokens.input, tokens.cached, tokens.output


def _weight(rest: int, *texts: str) -> int:
    """Bytes of a row at most: the API server escapes `<`, `>` and `&` too."""
    return rest + sum(len(json.dumps(text)) + 5 * sum(map(text.count, "<>&")) for text in texts)
