"""Which layers share a table of blocks, as vLLM 0.33.0 groups them (vllm/v1/core/kv_cache_planning.py)."""

from collections import Counter
from dataclasses import dataclass, replace

from kerf.sizing.shape import Kind

GROWING = frozenset({Kind.FULL, Kind.LATENT, Kind.INDEX, Kind.KEYS})
"""Kinds of which each token adds something."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the server must hold. `in_flight`: tokens scheduled and not yet settled."""

    max_len: int
    concurrency: int
    in_flight: int
    kv_dtype: str = "auto"
    prefix_caching: bool = True
    encoder_len: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """One kind of layer cache. `token` is bytes per token; `page` of one block, padding included."""

    kind: Kind
    token: int
    block: int
    page: int
    window: int = 0

    def pages(self, load: Load) -> int:
        """Blocks that one request at full length takes."""
        match self.kind:
            case Kind.SLIDING:
                kept = min(self.window - 1 + load.in_flight, load.max_len)
                return -(-kept // self.block) + 1  # the window seldom begins where a block does
            case Kind.CHUNKED:
                return -(-min(self.window + load.in_flight, load.max_len) // self.block)
            case Kind.STATE:
                return 2 if load.prefix_caching else 1
            case Kind.CROSS:
                return -(-load.encoder_len // self.block)
            case _:
                return -(-load.max_len // self.block)


Specs = list[tuple[int, Spec]]
"""Layers' numbers with one of their caches each."""


def groups_of(specs: Specs, *, packed: bool) -> list[Specs]:
    """Layers that share block tables. All layers that keep every token are one group, whatever their page."""
    if all(spec.kind in GROWING for _, spec in specs) or len({id(spec) for _, spec in specs}) == 1:
        return [specs]
    if packed:
        return _packed(specs)
    widest = max(spec.page for _, spec in specs)
    wide = {id(spec): _widened(spec, widest) for _, spec in specs}
    same: dict[Spec, Spec] = {}
    wide = {key: same.setdefault(spec, spec) for key, spec in wide.items()}
    kinds: dict[int, list[tuple[int, Spec]]] = {}
    for layer, spec in specs:
        unified = wide[id(spec)]
        kinds.setdefault(id(unified), []).append((layer, unified))
    if len(kinds) == 1:
        return list(kinds.values())
    sizes = [len(found) for found in kinds.values()]
    size = max(sizes) if max(sizes) < 1.5 * min(sizes) else min(sizes)
    groups = []
    for found in kinds.values():
        number = -(-len(found) // size)
        groups += [found[i::number] for i in range(number)]
    return groups


def _widened(spec: Spec, page: int) -> Spec:
    """A smaller page grows to the widest: by a larger block where that divides, else by padding."""
    if spec.page == page or spec.kind is Kind.STATE:
        return replace(spec, page=page)
    if page % spec.page == 0:
        return replace(spec, block=spec.block * (page // spec.page), page=page)
    return replace(spec, page=page)


def _packed(specs: Specs) -> list[Specs]:
    """Pages of several sizes side by side in one block: each kind in as many groups as fill blocks best."""
    buckets: dict[tuple[bool, int, int], Specs] = {}
    for layer, spec in specs:
        grows = spec.kind in GROWING
        buckets.setdefault((grows, spec.block, 0 if grows else spec.window), []).append((layer, spec))
    found = list(buckets.values())
    repeats = _repeats(found)
    numbers = [-(-_most(one) // repeats) if repeats and _is_balanced(one) else 1 for one in found]
    alone = [not repeats and one[0][1].kind is Kind.SLIDING for one in found]
    anchor = max(
        _widest(one, len(one) if free else number) for one, number, free in zip(found, numbers, alone, strict=True)
    )
    groups: list[Specs] = []
    for one, number, free in zip(found, numbers, alone, strict=True):
        fit = max(1, anchor // one[0][1].page)
        groups += _dealt(one, max(number, -(-len(one) // fit)) if free else number)
    return groups


def _pages(specs: Specs) -> Counter[int]:
    return Counter(spec.page for _, spec in specs)


def _most(specs: Specs) -> int:
    """Layers of the most frequent page."""
    return max(_pages(specs).values())


def _is_balanced(specs: Specs) -> bool:
    """Whether there are as many layers of each page: a pattern that repeats."""
    return len(set(_pages(specs).values())) == 1


def _widest(specs: Specs, number: int) -> int:
    return sum(-(-count // number) * page for page, count in _pages(specs).items())


def _repeats(buckets: list[Specs]) -> int:
    """Layers of each page to a group: the number that pads least; 0 where no kind mixes pages evenly."""
    even = [one for one in buckets if _is_balanced(one)]
    least = max((_most(one) for one in even if len(_pages(one)) > 1), default=0)
    counts = [_most(one) for one in even]
    tried = range(least, max(counts) + 1) if least else range(0)
    return min(tried, key=lambda size: (sum(-count % size for count in counts), -size), default=0)


def _dealt(specs: Specs, number: int) -> list[Specs]:
    """So many groups, each with every n-th layer of each page."""
    if number == 1:
        return [specs]
    by_page: dict[int, Specs] = {}
    for layer, spec in specs:
        by_page.setdefault(spec.page, []).append((layer, spec))
    pattern = list(zip(*by_page.values(), strict=True))
    return [[pair for repeat in pattern[i::number] for pair in repeat] for i in range(number)]
