"""The KV cache as SGLang 0.5.23 holds it: a pool per kind of layer, in pages of one token."""

from kerf.sizing import deepseek_v4
from kerf.sizing.cache import NOTHING, Plan, latent_dtype, state_bytes, token_bytes
from kerf.sizing.groups import GROWING, Load
from kerf.sizing.shape import Cache, Kind, Shape
from kerf.sizing.weights import Ranks, stage_layers

SWA_RATIO = 0.8
"""swa_full_tokens_ratio: the window layers' pool has this share of the full layers' tokens."""
TAILS = 4
"""Ends of cached prompts, to a request, that keep their windows (swa_prefix_tails)."""
EVICTED = 128
"""Tokens after which a window moves on (SGLANG_SWA_EVICTION_INTERVAL)."""
STATES_PER_REQUEST = 5
"""Slots of recurrent state to a running request with the radix cache on."""


def plan_pool(shape: Shape, ranks: Ranks, load: Load) -> Plan:
    """The pool of the fullest stage, with a block of one request at full length. Raises WireError."""
    if not shape.generates:
        return NOTHING
    kv = latent_dtype(shape, load.kv_dtype)
    if shape.family == deepseek_v4.FAMILY:
        return _compressed(shape, ranks, load)
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


def _compressed(shape: Shape, ranks: Ranks, load: Load) -> Plan:
    """DeepSeek V4's pools (model_executor/pool_configurator.py): compressed keys grow, the rest is per slot or request.

    The layout is Hopper's; Blackwell's has 528 bytes to a key in place of 584.
    """
    start, best = 0, (0, 0)
    for count in stage_layers(len(shape.layers), ranks.pp):
        caches = [cache for layer in shape.layers[start : start + count] for cache in layer.caches]
        start += count
        growing = -(-sum(cache.page for cache in caches if cache.kind in GROWING) // deepseek_v4.BLOCK)
        window = max(cache.window for cache in caches if cache.block == deepseek_v4.WINDOW_BLOCK)
        kept = [cache for cache in caches if cache.kind is Kind.SLIDING]
        fixed = sum(_rows(cache, load, window) * -(-cache.page // cache.block) for cache in kept)
        each = (load.max_len + deepseek_v4.BLOCK) * growing - (-fixed // load.concurrency)
        best = max(best, (each, growing))
    return Plan(best[0], 1, best[1], 1)


def _rows(cache: Cache, load: Load, window: int) -> int:
    """Rows of one layer's window, or of what waits to be compressed: a ring to each page or to each request."""
    page, requests = deepseek_v4.BLOCK, load.concurrency
    if cache.block == deepseek_v4.STATE_BLOCKS[deepseek_v4.HEAVY]:
        return (requests + 3) * deepseek_v4.HEAVY
    kept = requests * (window + EVICTED + 2 * page + TAILS * (window + page))
    slots = -(-(kept + load.in_flight + page) // page) * page
    return slots if cache.block == deepseek_v4.WINDOW_BLOCK else slots // page * cache.window
