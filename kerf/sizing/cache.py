"""The KV cache as vLLM 0.33.0 plans it: layers of one kind in groups, one pool of blocks, every group takes its own.

Read from vllm/v1/core/kv_cache_planning.py and kv_cache_interface.py and compared with them by `make oracle`.
"""

from dataclasses import dataclass, replace

from kerf.sizing import deepseek_v4
from kerf.sizing.groups import GROWING, Load, Spec, groups_of
from kerf.sizing.shape import Cache, Kind, Shape, State
from kerf.sizing.weights import Ranks, stage_layers
from kerf.wire.errors import WireError

BLOCK, LATENT_BLOCK, CHOSEN_BLOCK = 16, 64, 128
"""Tokens of a block: usual, of latent attention, and where attention chooses blocks (vLLM 0.33.0 takes no other)."""
LATENT_BYTES = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes per token and layer of vLLM's packed latents, with scales and the rope part."""
PACKED_WIDTH = 512 + 64
"""The one width of such a latent: kv_lora_rank and qk_rope_head_dim."""
KV_BYTES = {"auto": 2, "bfloat16": 2, "bf16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """The pool: bytes of a block on the fullest stage, and blocks for one request."""

    block_bytes: int
    request_blocks: int
    token_bytes: int
    """What each token adds on the fullest stage."""
    block_tokens: int

    def pool_bytes(self, concurrency: int) -> int:
        """Bytes for so many requests; the pool keeps one block back for itself."""
        return self.block_bytes * (self.request_blocks * concurrency + 1) if self.block_bytes else 0


NOTHING = Plan(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Pool:
    """How the cache is laid out, whatever the load: one block's bytes, and the kinds of layers in each group."""

    block_bytes: int
    token_bytes: int
    block_tokens: int
    groups: tuple[tuple[Spec, ...], ...]
    encoder_len: int

    def plan(self, load: Load) -> Plan:
        """The blocks of a request under a load."""
        load = replace(load, encoder_len=self.encoder_len)
        request = sum(max(spec.pages(load) for spec in group) for group in self.groups)
        return Plan(self.block_bytes, request, self.token_bytes, self.block_tokens)


def pool_of(shape: Shape, ranks: Ranks, kv_dtype: str) -> Pool:
    """The layout on one card. Raises WireError where a cache's storage is not known."""
    specs = _specs(shape, ranks, kv_dtype)
    owner = [stage for stage, count in enumerate(stage_layers(len(shape.layers), ranks.pp)) for _ in range(count)]
    groups = groups_of(specs, packed=shape.family == deepseek_v4.FAMILY)
    block = max(max(_by_stage(group, owner, [spec.page for _, spec in group])) for group in groups)
    kept = [(spec.page, spec.block) if spec.kind in GROWING else (0, 1) for _, spec in specs]
    growing = -(-max(_by_stage(specs, owner, [page for page, _ in kept])) // max(block for _, block in kept))
    kinds = tuple(tuple({id(spec): spec for _, spec in group}.values()) for group in groups)
    return Pool(block, growing, max(spec.block for group in kinds for spec in group), kinds, shape.encoder_len)


def _by_stage(specs: list[tuple[int, Spec]], owner: list[int], sizes: list[int]) -> list[int]:
    totals = [0] * (owner[-1] + 1)
    for (layer, _), size in zip(specs, sizes, strict=True):
        totals[owner[layer]] += size
    return totals


def token_bytes(cache: Cache, ranks: Ranks, kv_dtype: str) -> int:
    """Bytes that one token takes in one layer on one rank, none in a recurrent one. Raises WireError."""
    if cache.kind is Kind.STATE:
        return 0
    if cache.page:
        return -(-cache.page // cache.block)
    if cache.kind is Kind.INDEX:
        return cache.dim + cache.dim // 128 * 4  # 8-bit keys with a 32-bit scale to 128 (vLLM 0.33.0's indexer)
    if cache.kind is Kind.KEYS:
        return 2 * cache.dim  # whatever the keys and values: vLLM 0.33.0's indexer_kv_dtype, SGLang 0.5.23's upper end
    if cache.kind is Kind.LATENT and kv_dtype in LATENT_BYTES:
        if cache.dim != PACKED_WIDTH:
            fix = f"its packed latents have 512 + 64 numbers, and kv_lora_rank + qk_rope_head_dim is {cache.dim}"
            raise WireError("kv-dtype", kv_dtype, fix)
        return LATENT_BYTES[kv_dtype]
    if kv_dtype not in KV_BYTES:
        fix = f"the size of this cache is not known; known are {', '.join(KV_BYTES)}"
        raise WireError("kv-dtype", kv_dtype, f"{fix}, and fp8_ds_mla and nvfp4_ds_mla for latent attention")
    heads = max(1, cache.heads // ranks.tp) if cache.dim_v else 1
    return heads * (cache.dim + cache.dim_v) * KV_BYTES[kv_dtype]


def state_bytes(state: State, tp: int) -> int:
    """Bytes of one sequence's state in one layer on one rank."""
    conv = state.conv_dim
    if state.groups and state.groups % tp:
        conv += 2 * (tp - state.groups) * state.group_size
    ssm = -(-state.heads // tp) * state.per_head * state.ssm_bytes
    return -(-conv // tp) * state.conv_len * 2 + ssm


def _specs(shape: Shape, ranks: Ranks, kv_dtype: str) -> list[tuple[int, Spec]]:
    """Every layer's caches, with blocks enlarged until the state of recurrent layers fits one."""
    caches = [(i, cache) for i, layer in enumerate(shape.layers) for cache in layer.caches]
    kv = latent_dtype(shape, kv_dtype)
    kinds = {id(cache): cache for _, cache in caches}
    tokens = [token_bytes(cache, ranks, kv) for cache in kinds.values() if cache.kind is not Kind.STATE]
    states = [state_bytes(cache.state, ranks.tp) for cache in kinds.values() if cache.state is not None]
    block = default_block(shape)
    state_page = max(states, default=0)
    if states and tokens:
        step = 128 if shape.latent else block
        block = step * max(1, -(-state_page // (step * tokens[0])))
        state_page = block * tokens[0]
    made: dict[Spec, Spec] = {}
    found = {}
    for key, cache in kinds.items():
        spec = _spec(cache, token_bytes(cache, ranks, kv), block, state_page)
        found[key] = made.setdefault(spec, spec)  # alike ones are one object
    return [(layer, found[id(cache)]) for layer, cache in caches]


def default_block(shape: Shape) -> int:
    """Tokens of a block, before a recurrent state makes it larger."""
    return own_block(shape) or (LATENT_BLOCK if shape.latent else BLOCK)


def own_block(shape: Shape) -> int:
    """Tokens of a block that the model needs and vLLM has to be given; 0 where it needs none."""
    caches = [cache for layer in shape.layers for cache in layer.caches]
    paged = max((cache.block for cache in caches if cache.kind in GROWING), default=0)
    return paged or (CHOSEN_BLOCK if any(cache.kind is Kind.KEYS for cache in caches) else 0)


def _spec(cache: Cache, token: int, block: int, state_page: int) -> Spec:
    if cache.page:
        return Spec(cache.kind, token, cache.block, cache.page, cache.window)
    if cache.kind is Kind.STATE:
        return Spec(cache.kind, 0, block, state_page)
    return Spec(cache.kind, token, block, block * token, cache.window)


def latent_dtype(shape: Shape, kv_dtype: str) -> str:
    """Sparse latent attention keeps packed 8-bit latents by default (vLLM 0.33.0). Raises WireError."""
    if shape.family == deepseek_v4.FAMILY and kv_dtype not in deepseek_v4.CACHE_TYPES:
        fix = "the engines keep this family's cache in packed 8-bit keys: leave it out, or write fp8_e4m3"
        raise WireError("kv-dtype", kv_dtype, fix)
    sparse = any(cache.kind is Kind.INDEX for layer in shape.layers for cache in layer.caches)
    return "fp8_ds_mla" if sparse and kv_dtype in {"auto", "fp8", "fp8_e4m3"} else kv_dtype
