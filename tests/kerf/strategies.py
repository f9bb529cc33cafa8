"""Values of the kernel, and malformed text and JSON, for property tests."""

import json
from typing import Any

import orjson
from hypothesis import strategies as st

from kerf.values.ask import Stage
from kerf.values.device import Backend, Card, Mode
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.health import HEALTHY, Health, State

WORDS = st.text('abcXYZ-019/:,;~"\\é\x00 ', min_size=1, max_size=12)
NAMES = st.text("abc-0", min_size=1, max_size=8)
MIB = st.integers(0, 2**31 - 1)

SICK = st.builds(Health, state=st.sampled_from(State), cause=st.just("") | WORDS, since=st.integers(0, 2**40))
CARDS = st.builds(
    Card,
    id=WORDS,
    index=st.integers(0, 64),
    vendor=NAMES,
    model=WORDS,
    memory_mib=MIB,
    cores=st.integers(0, 1000),
    slots=st.integers(0, 100),
    numa=st.integers(0, 8),
    mode=st.sampled_from(Mode),
    backend=st.sampled_from(Backend),
    joint=st.booleans(),
    mode_note=st.sampled_from(("", "the pool asks for mps")),
    bus=st.sampled_from(("", "0000:5d:00")),
    driver=st.sampled_from(("", "570.86.15")),
    health=st.just(HEALTHY) | SICK,
    links=st.lists(WORDS, max_size=3).map(tuple),
    physical_mib=MIB,
)
INVENTORIES = st.lists(CARDS, max_size=6, unique_by=lambda card: card.id).map(
    lambda cards: tuple(sorted(cards, key=lambda card: (card.index, card.id)))
)

SLICES = st.builds(Slice, card=WORDS, vendor=NAMES, memory_mib=MIB, cores=st.integers(0, 100))
CONTAINER_GRANTS = st.builds(
    ContainerGrant,
    name=NAMES,
    slices=st.lists(SLICES, min_size=1, max_size=4, unique_by=lambda slice_: slice_.card).map(tuple),
)
GRANTS = st.builds(
    Grant, containers=st.lists(CONTAINER_GRANTS, max_size=4, unique_by=lambda held: held.name).map(tuple)
)
STAGES = st.lists(st.tuples(NAMES, st.sampled_from(Stage)), max_size=6, unique_by=lambda each: each[0]).map(tuple)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**30, -1, 1e308, -0.0, 1.5, 2**63, 10**400]) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)
DEEP = st.sampled_from(
    ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, '{"v":1,"cards":' + "[" * 990 + "]" * 990 + "}"]
)
TEXTS = st.one_of(
    WORDS,
    st.text('[]{}:,"0123456789.eE-+truefalsn \n', max_size=40),
    JSON.map(json.dumps),
    DEEP,
    st.sampled_from(["", "NaN", "1" * 5000, "[Infinity]", "\ud800", "null"]),
)
"""Texts of annotations: words, near-JSON, JSON of another shape, deep nesting, huge numbers."""


DEEP_VALUE = orjson.loads("[" * 1020 + "]" * 1020)
"""As deep as the services' decoder lets anything be; too deep for repr and json."""


def changed(document: Any, others: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """A JSON document with one value somewhere replaced by another, or left out."""
    paths = list(_paths(document))
    return st.tuples(st.sampled_from(paths), others | st.just(...)).map(lambda change: _with(document, *change))


def _paths(document: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from _paths(value, (*path, key))


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return {} if value is ... else value
    copied = json.loads(json.dumps(document))
    target = copied
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return copied
