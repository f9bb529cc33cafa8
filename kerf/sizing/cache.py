"""The KV cache as vLLM 0.33.0 plans it: layers of one kind in groups, one pool of blocks, every group takes its own.

Read from vllm/v1/core/kv_cache_planning.py and kv_cache_interface.py and compared with them by `make oracle`.
"""

from dataclasses import dataclass, replace

from kerf.sizing.shape import Cache, Kind, Shape, State
from kerf.sizing.weights import Ranks, stage_layers
from kerf.wire.errors import WireError

BLOCK, LATENT_BLOCK, CHOSEN_BLOCK = 16, 64, 128
"""Tokens of a block: usual, of latent attention, and where attention chooses blocks (vLLM 0.33.0 takes no other)."""
LATENT_FP8, LATENT_NVFP4 = 656, 352
"""Bytes per token and layer of vLLM's fp8_ds_mla and nvfp4_ds_mla: packed, with scales and the rope part."""
KV_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}


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


GROWING = frozenset({Kind.FULL, Kind.LATENT, Kind.INDEX, Kind.KEYS})
"""Kinds of which each token adds something."""
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
    groups = _groups(specs)
    block = max(max(_by_stage(group, owner, [spec.page for _, spec in group])) for group in groups)
    growing = max(_by_stage(specs, owner, [spec.token if spec.kind in GROWING else 0 for _, spec in specs]))
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
    if cache.kind is Kind.INDEX:
        return cache.dim + cache.dim // 128 * 4  # 8-bit keys with a 32-bit scale to 128 (vLLM 0.33.0's indexer)
    if cache.kind is Kind.KEYS:
        return 2 * cache.dim  # whatever the keys and values: vLLM 0.33.0's indexer_kv_dtype, SGLang 0.5.23's upper end
    if cache.kind is Kind.LATENT and kv_dtype in {"fp8_ds_mla", "nvfp4_ds_mla"}:
        return LATENT_FP8 if kv_dtype == "fp8_ds_mla" else LATENT_NVFP4
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
    block = own_block(shape) or (LATENT_BLOCK if shape.latent else BLOCK)
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


def own_block(shape: Shape) -> int:
    """Tokens of a block that the model needs and vLLM has to be given; 0 where it needs none."""
    chosen = any(cache.kind is Kind.KEYS for layer in shape.layers for cache in layer.caches)
    return CHOSEN_BLOCK if chosen else 0


def _spec(cache: Cache, token: int, block: int, state_page: int) -> Spec:
    if cache.kind is Kind.STATE:
        return Spec(cache.kind, 0, block, state_page)
    return Spec(cache.kind, token, block, block * token, cache.window)


def latent_dtype(shape: Shape, kv_dtype: str) -> str:
    """Sparse latent attention keeps packed 8-bit latents by default (vLLM 0.33.0)."""
    sparse = any(cache.kind is Kind.INDEX for layer in shape.layers for cache in layer.caches)
    return "fp8_ds_mla" if sparse and kv_dtype in {"auto", "fp8", "fp8_e4m3"} else kv_dtype


def _groups(specs: list[tuple[int, Spec]]) -> list[list[tuple[int, Spec]]]:
    """Layers that share block tables. All layers that keep every token are one group, whatever their page."""
    if all(spec.kind in GROWING for _, spec in specs):
        return [specs]
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
