"""Malformed input raises WireError and nothing else, whatever it is, and takes memory in proportion to its size."""

import contextlib
import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kerf.testing.builders import a_node, a_pod
from kerf.values.policy import Defaults
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.errors import WireError
from kerf.wire.objects import parse_holding, parse_node
from kerf.wire.resources import parse_pod
from tests.kerf.decoders import DECODERS, Decoder, changed_ledger
from tests.kerf.strategies import DEEP_VALUE, JSON, TEXTS, changed

every_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS)


@every_decoder
@given(text=TEXTS.map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=20))
def test_any_bytes(decoder: Decoder, text: bytes) -> None:
    with contextlib.suppress(WireError):
        decoder.parse(text)


@every_decoder
@given(data=st.data())
def test_a_document_with_one_thing_wrong(decoder: Decoder, data: st.DataObject) -> None:
    if decoder.binary:
        return
    documents = [json.loads(seed) for seed in decoder.seeds]
    values = JSON | st.just(DEEP_VALUE) if decoder.deep else JSON
    document = data.draw(st.sampled_from(documents).flatmap(lambda each: changed(each, values)))
    with contextlib.suppress(WireError):
        decoder.parse(orjson_or_json(document))


@every_decoder
def test_a_good_document_is_read(decoder: Decoder) -> None:
    for seed in decoder.seeds:
        decoder.parse(seed)


@given(st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), max_size=40))
def test_a_ledger_that_a_tenant_has_written_into(changes: list[tuple[int, int]]) -> None:
    """Ledgers are writable from within the container: the agent must survive any content."""
    with contextlib.suppress(WireError):
        DECODERS["ledger"].parse(changed_ledger(changes))


LARGE = {
    "nesting": b'{"a":' * 12_000,
    "a list of lists": b"[" + b"[]," * 1_500 + b"[]]",
    "many keys": json.dumps({f"k{i}": i for i in range(500)}).encode(),
    "a long number": b"9" * 50_000,
    "a long text": json.dumps({"kind": "x" * 50_000}).encode(),
    "colons": b"GPU-1,NVIDIA,1,1:" * 1_000,
    "semicolons": b";" * 15_000,
}


@every_decoder
@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_much_of_anything_takes_memory_in_proportion(decoder: Decoder, text: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(WireError):
            decoder.parse(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 300 * len(text)  # YAML keeps a mark for every token


def orjson_or_json(document: Any) -> bytes:
    """Orjson nests deeper; json writes numbers that are larger."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document).encode()


def test_values_too_deep_to_print() -> None:
    """Hypothesis lifts the recursion limit, so this one is tried without it."""
    pod = a_pod(annotations={"hami.io/gpu-scheduler-policy": DEEP_VALUE}, node=DEEP_VALUE)
    node = a_node() | {"status": {"allocatable": {"cpu": DEEP_VALUE}}}

    with pytest.raises(WireError, match=r"pod: '…': nest its values less deeply"):
        parse_pod(pod, NAMES, Defaults())
    with pytest.raises(WireError, match=r"pod: '…': nest its values less deeply"):
        parse_holding(pod | {"metadata": {"annotations": {"kerf.dev/grant": "{}"}}}, VENDORS)
    assert (parse_node(node, VENDORS).cards, parse_node(node, VENDORS).problem) == (
        (),
        "not a quantity but of type list",
    )


@pytest.mark.parametrize("depth", [900, 1020])
def test_deep_nesting_has_a_short_message(depth: int) -> None:
    deep = orjson.loads("[" * depth + "]" * depth)

    assert str(WireError("field", deep, "flatten it")) == "field: '[[[[[[[...]]]]]]]': flatten it"


@given(JSON)
@example("x" * 1_000_000)
def test_a_message_is_short_whatever_the_value(value: Any) -> None:
    assert len(str(WireError("f", value, "x"))) < 400
