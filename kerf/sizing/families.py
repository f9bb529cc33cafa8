"""How each family of decoders differs from the plain one.

Read from transformers 5.20.0's classes; `make oracle` compares their parameter counts with ours.

A flag is False, True, or the config's key with the class's default for files that leave it out.
"""

from dataclasses import dataclass

Flag = bool | tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`. Defaults describe llama."""

    qkv_bias: Flag = False
    o_bias: Flag = False
    mlp_bias: Flag = False
    gated: bool = True
    qk_norm: str = ""
    """head: one vector of head_dim each; full: of all heads; heads: like full, but laid out by head."""
    qk_norm_if: Flag = True
    norms: int = 2
    norm_bias: bool = False
    tied: bool = False
    """Of the class, for files without tie_word_embeddings."""
    head_dim: int | None = None
    """Of the class, where the file has no key. None: hidden_size / num_attention_heads."""
    kv_heads: int | None = None
    """Of the class, where the file has no key. None: as many as attention heads."""
    sinks: bool = False
    head_bias: Flag = False
    activation: int = 0
    """Learned numbers of each feed-forward network's activation."""
    gate: bool = False
    """The query projection also makes an output gate: twice the rows."""
    latent: bool = False
    index: bool = False
    """A sparse-attention indexer beside the latent attention."""
    pattern: tuple[str, int] | None = None
    """Without layer_types: the kind of the local layers, and that every n-th layer is full. 0: none is."""
    window: tuple[str, int | None] = ("sliding_window", None)
    """The window's key and the class's default for files without it."""
    window_if: str = ""
    """A flag that must be true for the window to count."""
    mixer: str = ""
    """What the layers without attention hold: gdn, mamba2, kda, conv."""
    parallel_mixer: bool = False
    """Attention and mixer in every layer (falcon_h1)."""
    experts: str = ""
    """The key of the number of routed experts; empty: dense."""
    dense_too: bool = False
    """Some models of the family have no experts, so their number may be missing."""
    expert_dim: tuple[str, ...] = ("moe_intermediate_size", "intermediate_size")
    shared: str = ""
    """count: shared experts of the routed size; size: one of its own size; llama4: one of intermediate_size."""
    shared_key: str = "n_shared_experts"
    shared_gate: bool = False
    expert_gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    correction: bool = False
    """A learned bias per expert counts as a parameter."""
    dense_mlp: str = "intermediate_size"
    max_len: int = 2048
    """Of the class, for files without max_position_embeddings."""


BIAS: Flag = ("attention_bias", False)
LLAMA = Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False))
QWEN3 = Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="head", head_dim=128, kv_heads=32, window_if="use_sliding_window",
               max_len=32768)  # fmt: skip
DEEPSEEK = Family(latent=True, experts="n_routed_experts", shared="count", max_len=4096)
GDN = Family(qk_norm="head", head_dim=256, gate=True, mixer="gdn", pattern=("linear_attention", 4), max_len=32768)
GDN_MOE = Family(qk_norm="head", head_dim=256, gate=True, mixer="gdn", pattern=("linear_attention", 4), max_len=32768,
                 experts="num_experts", shared="size", shared_gate=True)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "arcee": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), gated=False, max_len=4096),
    "mistral": Family(kv_heads=8, window=("sliding_window", 4096), max_len=131072),
    "ministral": Family(kv_heads=8, window=("sliding_window", 4096), max_len=131072),
    "ministral3": Family(kv_heads=8, head_dim=128, max_len=262144),
    "mixtral": Family(kv_heads=8, experts="num_local_experts", expert_dim=("intermediate_size",), max_len=131072),
    "qwen2": Family(qkv_bias=True, kv_heads=32, window_if="use_sliding_window", max_len=32768),
    "qwen2_moe": Family(qkv_bias=("qkv_bias", True), kv_heads=16, window_if="use_sliding_window", experts="num_experts",
                        shared="size",
                        shared_gate=True, max_len=32768),
    "qwen3": QWEN3,
    "qwen3_moe": Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="head", kv_heads=4,
                        window_if="use_sliding_window", experts="num_experts", max_len=32768),
    "qwen3_next": GDN_MOE,
    "qwen3_5_text": GDN,
    "qwen3_5_moe_text": GDN_MOE,
    "gemma": Family(qkv_bias=BIAS, o_bias=BIAS, tied=True, head_dim=256, kv_heads=16, max_len=8192),
    "gemma2": Family(qkv_bias=BIAS, o_bias=BIAS, norms=4, tied=True, head_dim=256, kv_heads=4,
                     pattern=("sliding_attention", 2), window=("sliding_window", 4096), max_len=8192),
    "gemma3_text": Family(qkv_bias=BIAS, o_bias=BIAS, norms=4, qk_norm="head", tied=True, head_dim=256,
                          kv_heads=4, pattern=("sliding_attention", 6), window=("sliding_window", 4096),
                          max_len=131072),
    "gemma4_text": Family(qkv_bias=BIAS, o_bias=BIAS, norms=4, qk_norm="head", tied=True, head_dim=256,
                          kv_heads=4, pattern=("sliding_attention", 6), window=("sliding_window", 512),
                          dense_too=True, experts="num_experts", max_len=131072),
    "phi": Family(qkv_bias=True, o_bias=True, mlp_bias=True, gated=False, norms=1, norm_bias=True, head_bias=True),
    "phi3": Family(max_len=4096),
    "phimoe": Family(qkv_bias=BIAS, o_bias=BIAS, norm_bias=True, head_bias=("lm_head_bias", False), kv_heads=8,
                     experts="num_local_experts", expert_dim=("intermediate_size",), max_len=131072),
    "apertus": Family(qkv_bias=BIAS, o_bias=BIAS, gated=False, qk_norm="head", activation=2, max_len=65536),
    "afmoe": Family(qk_norm="head", gate=True, norms=4, head_dim=128, pattern=("sliding_attention", 4),
                    window=("sliding_window", 1024), experts="num_experts", shared="count",
                    shared_key="num_shared_experts", correction=True, max_len=16384),
    "exaone_moe": Family(qk_norm="head", kv_heads=32, pattern=("sliding_attention", 4),
                         window=("sliding_window", 4096), experts="num_experts", shared="count",
                         shared_key="num_shared_experts"),
    "hy_v3": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), qk_norm="head",
                    qk_norm_if=("qk_norm", True), head_dim=128, kv_heads=8, experts="num_experts", shared="count",
                    shared_key="num_shared_experts", max_len=131072),
    "hunyuan_v1_dense": Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="head"),
    "granitemoe": Family(qkv_bias=BIAS, o_bias=BIAS, experts="num_local_experts", expert_dim=("intermediate_size",)),
    "granitemoeshared": Family(qkv_bias=BIAS, o_bias=BIAS, experts="num_local_experts",
                               expert_dim=("intermediate_size",), shared="size",
                               shared_key="shared_intermediate_size"),
    "granite": LLAMA,
    "granitemoehybrid": Family(qkv_bias=BIAS, o_bias=BIAS, mixer="mamba2", dense_too=True, experts="num_local_experts",
                               expert_dim=("intermediate_size",), shared="size", shared_key="shared_intermediate_size"),
    "smollm3": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), tied=True, kv_heads=4,
                      window_if="use_sliding_window", max_len=32768),
    "olmo2": Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="full"),
    "olmo3": Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="full", pattern=("sliding_attention", 4),
                    window=("sliding_window", 4096)),
    "olmoe": Family(qkv_bias=BIAS, o_bias=BIAS, qk_norm="full", experts="num_experts",
                    expert_dim=("intermediate_size",), max_len=4096),
    "exaone4": Family(qk_norm="head", kv_heads=32, pattern=("sliding_attention", 4), window=("sliding_window", 4096)),
    "cohere": Family(qkv_bias=BIAS, o_bias=BIAS, norms=1, tied=True, qk_norm="heads",
                     qk_norm_if=("use_qk_norm", False), max_len=8192),
    "cohere2": Family(qkv_bias=BIAS, o_bias=BIAS, norms=1, tied=True, pattern=("sliding_attention", 4),
                      window=("sliding_window", 4096), max_len=8192),
    "glm": Family(qkv_bias=("attention_bias", True), head_dim=128, kv_heads=2, max_len=131072),
    "glm4": Family(qkv_bias=("attention_bias", True), norms=4, head_dim=128, kv_heads=2, max_len=131072),
    "glm4_moe": Family(qkv_bias=BIAS, qk_norm="head", qk_norm_if=("use_qk_norm", False), kv_heads=8,
                       experts="n_routed_experts", shared="count", max_len=131072),
    "glm4_moe_lite": Family(latent=True, experts="n_routed_experts", shared="count", max_len=202752),
    "deepseek_v2": Family(latent=True, experts="n_routed_experts", shared="count"),
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "deepseek_v32": Family(latent=True, index=True, experts="n_routed_experts", shared="count", max_len=163840),
    "deepseek_v4": Family(latent=True, experts="n_routed_experts", expert_dim=("moe_intermediate_size",),
                          shared="count", max_len=1048576),
    "glm_moe_dsa": Family(latent=True, index=True, experts="n_routed_experts", shared="count", max_len=202752),
    "minimax_m2": Family(qk_norm="full", head_dim=128, kv_heads=8, experts="num_local_experts",
                         expert_dim=("intermediate_size",), max_len=196608),
    "minimax_m3_vl_text": Family(qk_norm="head", head_dim=128, kv_heads=4, experts="num_local_experts",
                                 expert_dim=("intermediate_size",), shared="size",
                                 shared_key="shared_intermediate_size", dense_mlp="dense_intermediate_size",
                                 max_len=524288),
    "gpt_oss": Family(qkv_bias=("attention_bias", True), o_bias=("attention_bias", True), head_dim=64, kv_heads=8,
                      sinks=True,
                      pattern=("sliding_attention", 2), window=("sliding_window", 128), experts="num_local_experts",
                      expert_dim=("intermediate_size",), expert_bias=True, router_bias=True, max_len=131072),
    "llama4_text": Family(qkv_bias=BIAS, o_bias=BIAS, head_dim=128, kv_heads=8,
                          pattern=("chunked_attention", 4), window=("attention_chunk_size", 8192),
                          experts="num_local_experts",
                          expert_dim=("intermediate_size",), shared="llama4", dense_mlp="intermediate_size_mlp",
                          max_len=131072),
    "ernie4_5": Family(qkv_bias=("use_bias", False), o_bias=("use_bias", False), mlp_bias=("use_bias", False),
                       tied=True,
                       head_dim=128, kv_heads=2, max_len=131072),
    "ernie4_5_moe": Family(qkv_bias=("use_bias", False), o_bias=("use_bias", False), mlp_bias=("use_bias", False),
                           tied=True,
                           kv_heads=4, experts="moe_num_experts", shared="count", shared_key="moe_num_shared_experts",
                           correction=True, max_len=131072),
    "seed_oss": Family(qkv_bias=("attention_bias", True), o_bias=("attention_out_bias", False), mlp_bias=("mlp_bias",
                       False),
                       head_dim=128, kv_heads=8, max_len=524288),
    "starcoder2": Family(qkv_bias=("use_bias", True), o_bias=("use_bias", True), mlp_bias=("use_bias", True),
                         gated=False,
                         norm_bias=True, tied=True, kv_heads=2, max_len=4096),
    "nemotron_h": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), gated=False, norms=1,
                         head_dim=128, kv_heads=8, mixer="mamba2", dense_too=True, experts="n_routed_experts",
                         shared="size",
                         shared_key="moe_shared_expert_intermediate_size", expert_gated=False, max_len=4096),
    "falcon_h1": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), kv_heads=8,
                        mixer="mamba2", parallel_mixer=True, max_len=8192),
    "bamba": Family(qkv_bias=BIAS, o_bias=BIAS, mlp_bias=("mlp_bias", False), kv_heads=8, mixer="mamba2",
                    max_len=262144),
    "lfm2": Family(qk_norm="head", tied=True, kv_heads=8, mixer="conv", max_len=128000),
    "lfm2_moe": Family(qk_norm="head", tied=True, kv_heads=8, mixer="conv", experts="num_experts", max_len=128000),
    "mimo_v2_flash": Family(head_dim=192, kv_heads=4, experts="n_routed_experts", window=("sliding_window", 129),
                            max_len=131072),
}  # fmt: skip
ALIASES = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "llama4": "llama4_text",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "mistral3": "mistral",
    "voxtral": "llama",
    "qwen2_audio": "qwen2",
    "internvl": "qwen2",
    "kimi_k25": "deepseek_v3",
    "minimax_m3": "minimax_m3_vl_text",
    "minimax_m3_text": "minimax_m3_vl_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "mimo": "qwen2",
    "solar": "llama",
    "exaone": "llama",
    "internlm2": "llama",
    "internlm3": "llama",
}
"""The text family of names that have none of their own, and of models that nest a text part without a name.

vLLM 0.33.0 serves the last five by its classes of these families, or by copies of them.
"""
DECIDES = frozenset({"minimax_m3_vl"})
"""Multi-modal names that say which family the text part is: their files name an older one in it."""
