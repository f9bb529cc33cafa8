"""The KV cache as SGLang 0.5.23 holds it: a pool per kind of layer, in pages of one token."""

from kerf.sizing.cache import GROWING, NOTHING, Load, Plan, latent_dtype, state_bytes, token_bytes
from kerf.sizing.shape import Kind, Shape
from kerf.sizing.weights import Ranks, stage_layers

SWA_RATIO = 0.8
"""swa_full_tokens_ratio: the window layers' pool has this share of the full layers' tokens."""
STATES_PER_REQUEST = 5
"""Slots of recurrent state to a running request with the radix cache on."""


def plan_pool(shape: Shape, ranks: Ranks, load: Load) -> Plan:
    """The pool of the fullest stage, with a block of one request at full length. Raises WireError."""
    if not shape.generates:
        return NOTHING
    kv = latent_dtype(shape, load.kv_dtype)
    start, best = 0, (0, 0)
    for count in stage_layers(len(shape.layers), ranks.pp):
        caches = [cache for layer in shape.layers[start : start + count] for cache in layer.caches]
        start += count
        growing = sum(token_bytes(c, ranks, kv) for c in caches if c.kind in GROWING)
        local = sum(token_bytes(c, ranks, kv) for c in caches if c.kind in {Kind.SLIDING, Kind.CHUNKED})
        cross = sum(token_bytes(c, ranks, kv) for c in caches if c.kind is Kind.CROSS)
        state = sum(state_bytes(c.state, ranks.tp) for c in caches if c.state is not None)
        ratio = SWA_RATIO if growing else 1.0
        size = load.max_len * growing + int(load.max_len * ratio) * local + shape.encoder_len * cross
        best = max(best, (size + STATES_PER_REQUEST * state, growing))
    return Plan(best[0], 1, best[1], 1)
