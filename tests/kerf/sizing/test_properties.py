"""What must hold for every model and every ask."""

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.request import Ask
from kerf.wire.errors import WireError
from tests.kerf.sizing.models import NAMES, a_config, model

MODELS = {name: model(name) for name in NAMES}
LENGTHS = st.integers(1, 8192)
FEW = st.integers(1, 64)


@st.composite
def asks(draw):
    """A model and an ask that it can answer."""
    found = MODELS[draw(st.sampled_from(NAMES))]
    ask = Ask(
        runtime=draw(st.sampled_from(["vllm", "sglang"])),
        max_len=min(draw(LENGTHS), found.context.most),
        concurrency=draw(FEW),
        tp=draw(st.sampled_from([1, 2, 4, 8])),
        kv_dtype=draw(st.sampled_from(["auto", "fp8"])),
        batched_tokens=draw(st.sampled_from([256, 2048, 8192])),
    )
    return found, ask, sized(found, ask)


def sized(found, ask):
    try:
        return estimate(found, ask)
    except WireError:
        assume(False)
        raise


@given(asks(), st.integers(0, 100_000))
def test_more_context_never_shrinks_a_slice(case, more):
    found, ask, before = case
    longer = min(ask.max_len + more, found.context.most)

    assert sized(found, replace(ask, max_len=longer)).slice_mib >= before.slice_mib


@given(asks(), st.integers(0, 64))
def test_more_requests_at_once_never_shrink_a_slice(case, more):
    found, ask, before = case

    assert sized(found, replace(ask, concurrency=ask.concurrency + more)).slice_mib >= before.slice_mib


@given(asks())
def test_a_more_precise_cache_never_shrinks_a_slice(case):
    found, ask, _ = case
    narrow, wide = (sized(found, replace(ask, kv_dtype=kind)) for kind in ("fp8", "bfloat16"))

    assert wide.slice_mib >= narrow.slice_mib


@given(asks())
def test_more_precise_weights_never_shrink_a_slice(case):
    found, ask, _ = case
    assume(found.quant.name == "16-bit")
    kinds = ("bitsandbytes", "fp8", "none")
    sizes = [sized(found, replace(ask, quantization=kind)).weights_bytes for kind in kinds]

    assert sizes == sorted(sizes)


@given(asks())
def test_tensor_parallelism_never_makes_a_card_hold_more_weights(case):
    found, ask, before = case
    after = sized(found, replace(ask, tp=2 * ask.tp))

    assert after.weights_bytes <= before.weights_bytes


@given(asks(), st.integers(2, 4))
def test_pipeline_stages_hold_less_than_the_whole(case, pp):
    found, ask, before = case
    after = sized(found, replace(ask, pp=pp))

    assert after.stage.total <= before.stage.total + found.shape.vocab * found.shape.hidden * 2


@given(
    hidden=st.sampled_from([256, 1024, 4096]),
    layers=st.integers(1, 64),
    heads=st.sampled_from([4, 8, 32]),
    kv=st.sampled_from([1, 2, 4]),
    tied=st.booleans(),
)
def test_a_dense_decoders_parameters_follow_the_textbook(hidden, layers, heads, kv, tied):
    config = a_config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
        tie_word_embeddings=tied,
    )  # fmt: skip
    dim = hidden // heads
    layer = 2 * hidden * heads * dim + 2 * hidden * kv * dim + 3 * hidden * 2816 + 2 * hidden

    assert read_model(config).shape.params == layers * layer + hidden + 32000 * hidden * (1 if tied else 2)
