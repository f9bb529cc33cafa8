"""Vision and audio towers with their projectors. Sizes as in transformers 5.20.0's classes.

Every rank is charged a whole tower, which some engines divide.
"""

from collections.abc import Callable

from kerf.sizing.config import Config
from kerf.sizing.shape import Tensor
from kerf.wire.errors import WireError

Maker = Callable[[Config, Config, int], list[Tensor]]
"""The tower's own config, the whole one, and the hidden size of the text part."""
Blocks = tuple[int, int, int]
"""Layers, hidden size and feed-forward size."""


def plain(where: str, blocks: Blocks, *, gated: bool = False, bias: bool = True, norm: int = 2) -> list[Tensor]:
    """Blocks of attention and feed-forward as most encoders have them. `norm`: vectors per norm, 2 with bias."""
    layers, hidden, size = blocks
    wide = 2 if gated else 1
    parts = [
        Tensor(f"{where}.attn", 4 * hidden, hidden, linear=True, count=layers),
        Tensor(f"{where}.mlp.up", wide * size, hidden, linear=True, count=layers),
        Tensor(f"{where}.mlp.down", hidden, size, linear=True, count=layers),
        Tensor(f"{where}.norms", hidden, 2 * norm, count=layers),
    ]
    if bias:
        parts += [
            Tensor(f"{where}.attn.bias", hidden, 4, count=layers),
            Tensor(f"{where}.mlp.bias", wide * size + hidden, count=layers),
        ]
    return parts


def _linear(name: str, rows: int, cols: int, *, bias: bool = True) -> list[Tensor]:
    parts = [Tensor(name, rows, cols, linear=True)]
    return [*parts, Tensor(f"{name}.bias", rows)] if bias else parts


def _siglip(tower: Config, _top: Config, text: int) -> list[Tensor]:
    hidden, size = tower.whole("hidden_size", default=768), tower.whole("intermediate_size", default=3072)
    patch, image = tower.whole("patch_size", default=16), tower.whole("image_size", default=224)
    parts = plain("vision_tower", (tower.whole("num_hidden_layers", default=12), hidden, size))
    parts += [
        Tensor("vision_tower.patch_embedding", hidden, tower.whole("num_channels", default=3) * patch * patch + 1),
        Tensor("vision_tower.position_embedding", (image // patch) ** 2, hidden),
        Tensor("vision_tower.post_layernorm", hidden, 2),
    ]
    if tower.flag("vision_use_head", default=True):
        parts += [
            Tensor("vision_tower.head.attention", 4 * hidden, hidden + 1),
            *_linear("vision_tower.head.mlp.fc1", size, hidden),
            *_linear("vision_tower.head.mlp.fc2", hidden, size),
            Tensor("vision_tower.head.norm", hidden, 3),  # layer norm and probe
        ]
    return [*parts, Tensor("multi_modal_projector", hidden, text), Tensor("multi_modal_projector.norm", hidden)]


def _qwen2_vl(tower: Config, _top: Config, _text: int) -> list[Tensor]:
    hidden = tower.whole("embed_dim", default=1280)
    out, merge = tower.whole("hidden_size", default=3584), tower.whole("spatial_merge_size", default=2) ** 2 * hidden
    size = int(hidden * tower.real("mlp_ratio", 4.0))
    return [
        *plain("visual.blocks", (tower.whole("depth", default=32), hidden, size)),
        Tensor("visual.patch_embed", hidden, _patch(tower, 14)),
        Tensor("visual.merger.ln_q", hidden, 2),
        *_linear("visual.merger.mlp.0", merge, merge),
        *_linear("visual.merger.mlp.2", out, merge),
    ]


def _patch(tower: Config, size: int) -> int:
    side = tower.whole("patch_size", default=size)
    return (
        tower.whole("in_channels", "in_chans", default=3) * tower.whole("temporal_patch_size", default=2) * side * side
    )


def _qwen2_5_vl(tower: Config, _top: Config, _text: int) -> list[Tensor]:
    hidden = tower.whole("hidden_size", default=3584)
    blocks = (tower.whole("depth", default=32), hidden, tower.whole("intermediate_size", default=3420))
    merge = tower.whole("spatial_merge_size", default=2) ** 2 * hidden
    return [
        *plain("visual.blocks", blocks, gated=True, norm=1),
        Tensor("visual.patch_embed", hidden, _patch(tower, 14)),
        Tensor("visual.merger.ln_q", hidden),
        *_linear("visual.merger.mlp.0", merge, merge),
        *_linear("visual.merger.mlp.2", tower.whole("out_hidden_size", default=3584), merge),
    ]


def _qwen3_vl(tower: Config, top: Config, _text: int) -> list[Tensor]:
    hidden, size = tower.whole("hidden_size", default=1152), tower.whole("intermediate_size", default=4304)
    merge = tower.whole("spatial_merge_size", default=2) ** 2 * hidden
    out = tower.whole("out_hidden_size", default=3584)
    default = () if top.text("model_type").startswith("qwen3_5") else (8, 16, 24)
    found = tower.wholes("deepstack_visual_indexes")
    deep = len(default if found is None else found)
    parts = [
        *plain("visual.blocks", (tower.whole("depth", default=27), hidden, size)),
        Tensor("visual.patch_embed", hidden, _patch(tower, 16) + 1),
        Tensor("visual.pos_embed", tower.whole("num_position_embeddings", default=2304), hidden),
        Tensor("visual.merger.norm", hidden, 2),
        Tensor("visual.merger", merge, merge + 1, linear=True),
        Tensor("visual.merger.out", out, merge + 1, linear=True),
    ]
    if deep:
        parts += [
            Tensor("visual.deepstack.norm", merge, 2, count=deep),
            Tensor("visual.deepstack", merge, merge + 1, linear=True, count=deep),
            Tensor("visual.deepstack.out", out, merge + 1, linear=True, count=deep),
        ]
    return parts


def _pixtral(tower: Config, top: Config, text: int) -> list[Tensor]:
    hidden, patch = tower.whole("hidden_size", default=1024), tower.whole("patch_size", default=16)
    blocks = (tower.whole("num_hidden_layers", default=24), hidden, tower.whole("intermediate_size", default=4096))
    merge = top.whole("spatial_merge_size", default=2) ** 2
    bias = top.flag("multimodal_projector_bias")
    return [
        *plain("vision_tower", blocks, gated=True, bias=False, norm=1),
        Tensor("vision_tower.patch_conv", hidden, tower.whole("num_channels", default=3) * patch * patch),
        Tensor("vision_tower.ln_pre", hidden),
        Tensor("multi_modal_projector.norm", hidden),
        Tensor("multi_modal_projector.patch_merger", hidden, merge * hidden),
        *_linear("multi_modal_projector.linear_1", text, hidden, bias=bias),
        *_linear("multi_modal_projector.linear_2", text, text, bias=bias),
    ]


def _llama4(tower: Config, _top: Config, text: int) -> list[Tensor]:
    hidden, size = tower.whole("hidden_size", default=768), tower.whole("intermediate_size", default=5632)
    patch, image = tower.whole("patch_size", default=14), tower.whole("image_size", default=448)
    middle, out = tower.whole("projector_input_dim", default=4096), tower.whole("projector_output_dim", default=4096)
    return [
        *plain("vision_model", (tower.whole("num_hidden_layers", default=34), hidden, size)),
        Tensor("vision_model.patch_embedding", hidden, tower.whole("num_channels", default=3) * patch * patch),
        Tensor("vision_model.positions", (image // patch) ** 2 + 1, hidden),
        Tensor("vision_model.norms", hidden, 5),  # before, after, and the class embedding
        Tensor("vision_model.adapter.fc1", middle, size),
        Tensor("vision_model.adapter.fc2", out, out),
        Tensor("multi_modal_projector", text, tower.whole("vision_output_dim", default=7680)),
    ]


def whisper_encoder(where: str, tower: Config) -> list[Tensor]:
    """The encoder of Whisper, which qwen2_audio and voxtral have too."""
    layers = tower.whole("encoder_layers", "num_hidden_layers", default=32)
    hidden = tower.whole("d_model", "hidden_size", default=1280)
    size = tower.whole("encoder_ffn_dim", "intermediate_size", default=5120)
    mels, positions = tower.whole("num_mel_bins", default=128), tower.whole("max_source_positions", default=1500)
    return [
        *plain(f"{where}.layers", (layers, hidden, size), bias=False),
        Tensor(f"{where}.attn.bias", hidden, 3, count=layers),  # keys have none
        Tensor(f"{where}.mlp.bias", size + hidden, count=layers),
        Tensor(f"{where}.conv1", hidden, 3 * mels + 1),
        Tensor(f"{where}.conv2", hidden, 3 * hidden + 1),
        Tensor(f"{where}.positions", positions, hidden),
        Tensor(f"{where}.norm", hidden, 2),
    ]


def _qwen2_audio(tower: Config, _top: Config, text: int) -> list[Tensor]:
    return [
        *whisper_encoder("audio_tower", tower),
        *_linear("multi_modal_projector", text, tower.whole("d_model", default=1280)),
    ]


def _voxtral(tower: Config, _top: Config, text: int) -> list[Tensor]:
    return [
        *whisper_encoder("audio_tower", tower),
        Tensor("multi_modal_projector.linear_1", text, tower.whole("intermediate_size", default=5120), linear=True),
        Tensor("multi_modal_projector.linear_2", text, text, linear=True),
    ]


def _gemma4(tower: Config, top: Config, text: int) -> list[Tensor]:
    if top.has("audio_config"):
        raise WireError("audio_config", dict(top.values["audio_config"]), "Gemma 4's audio tower is not known")
    hidden, size = tower.whole("hidden_size", default=768), tower.whole("intermediate_size", default=3072)
    layers, dim = tower.whole("num_hidden_layers", default=16), tower.whole("head_dim", default=64)
    heads = tower.whole("num_attention_heads", default=12)
    wide = dim * (heads + tower.whole("num_key_value_heads", default=heads))
    patch = tower.whole("patch_size", default=16)
    return [
        Tensor("vision_tower.attn", 2 * wide, hidden, linear=True, count=layers),
        Tensor("vision_tower.mlp.up", 2 * size, hidden, linear=True, count=layers),
        Tensor("vision_tower.mlp.down", hidden, size, linear=True, count=layers),
        Tensor("vision_tower.norms", 4 * hidden + 2 * dim, count=layers),
        Tensor("vision_tower.patch_embedder", hidden, 3 * patch * patch),
        Tensor("vision_tower.positions", 2 * tower.whole("position_embedding_size", default=10240), hidden),
        Tensor("embed_vision.embedding_projection", text, hidden, linear=True),
    ]


def _kimi_k25(tower: Config, top: Config, text: int) -> list[Tensor]:
    hidden = tower.whole("hidden_size", "vt_hidden_size", default=1152)
    size = tower.whole("intermediate_size", "vt_intermediate_size", default=4304)
    layers = tower.whole("num_hidden_layers", "vt_num_hidden_layers", default=27)
    patch = tower.whole("patch_size", default=14)
    height = tower.whole("pos_emb_height", "init_pos_emb_height", default=64)
    width = tower.whole("pos_emb_width", "init_pos_emb_width", default=64)
    merge = tower.wholes("merge_kernel_size") or (2, 2)
    joined = hidden * merge[0] * merge[-1]
    return [
        *plain("vision_tower", (layers, hidden, size)),
        Tensor("vision_tower.patch_embed", hidden, 3 * patch * patch + 1),
        Tensor("vision_tower.positions", height * width, hidden),
        Tensor("vision_tower.final_layernorm", hidden, 2),
        Tensor("mm_projector.pre_norm", top.whole("projection_hidden_size", default=hidden), 2),
        *_linear("mm_projector.in_proj", joined, joined),
        *_linear("mm_projector.out_proj", text, joined),
    ]


def _internvl(tower: Config, top: Config, text: int) -> list[Tensor]:
    hidden, size = tower.whole("hidden_size", default=1024), tower.whole("intermediate_size", default=4096)
    layers = tower.whole("num_hidden_layers", default=24)
    image, patch = _side(tower, "image_size", 448), _side(tower, "patch_size", 14)
    biases = 4 if tower.flag("attention_bias") else 1
    norm = 2 if tower.text("norm_type", default="layer_norm") == "layer_norm" else 1
    joined = hidden * int(1 / top.real("downsample_ratio", 0.5)) ** 2
    parts = [
        *plain("vision_tower", (layers, hidden, size), bias=False, norm=norm),
        Tensor("vision_tower.biases", biases * hidden + size + hidden, count=layers),
        Tensor("vision_tower.scales", hidden, 2, count=layers),
        Tensor("vision_tower.patch_embedding", hidden, 3 * patch * patch + 1),
        Tensor("vision_tower.cls_token", hidden),
        Tensor("multi_modal_projector.norm", joined, 2),
        *_linear("multi_modal_projector.linear_1", text, joined),
        *_linear("multi_modal_projector.linear_2", text, text),
    ]
    if tower.flag("use_absolute_position_embeddings", default=True):
        parts.append(Tensor("vision_tower.positions", (image // patch) ** 2 + 1, hidden))
    if tower.flag("use_qk_norm"):
        parts.append(Tensor("vision_tower.qk_norm", hidden, 2, count=layers))
    return parts


def _side(tower: Config, key: str, default: int) -> int:
    pair = tower.values.get(key)
    sides = tower.wholes(key) if isinstance(pair, list) else None
    return sides[0] if sides else tower.whole(key, default=default)


def _minimax_m3(tower: Config, top: Config, text: int) -> list[Tensor]:
    hidden, size = tower.whole("hidden_size", default=1280), tower.whole("intermediate_size", default=5120)
    layers, middle = tower.whole("num_hidden_layers", default=32), top.whole("projector_hidden_size", default=6144)
    compressed = tower.part("img_token_compression_config") or tower
    merge = compressed.whole("spatial_merge_size", default=2) ** 2 * text
    return [
        *plain("vision_tower", (layers, hidden, size)),
        Tensor("vision_tower.patch_embedding", hidden, _patch(tower, 14)),
        Tensor("vision_tower.pre_layrnorm", hidden, 2),
        *_linear("multi_modal_projector.linear_1", middle, hidden),
        *_linear("multi_modal_projector.linear_2", text, middle),
        *_linear("multi_modal_projector.merge_linear_1", middle, merge),
        *_linear("multi_modal_projector.merge_linear_2", text, middle),
    ]


TOWERS: dict[str, tuple[str, Maker]] = {
    "gemma3": ("vision_config", _siglip),
    "gemma4": ("vision_config", _gemma4),
    "kimi_k25": ("vision_config", _kimi_k25),
    "qwen2_vl": ("vision_config", _qwen2_vl),
    "qwen2_5_vl": ("vision_config", _qwen2_5_vl),
    "qwen3_vl": ("vision_config", _qwen3_vl),
    "qwen3_vl_moe": ("vision_config", _qwen3_vl),
    "qwen3_5": ("vision_config", _qwen3_vl),
    "qwen3_5_moe": ("vision_config", _qwen3_vl),
    "mistral3": ("vision_config", _pixtral),
    "llama4": ("vision_config", _llama4),
    "internvl": ("vision_config", _internvl),
    "minimax_m3_vl": ("vision_config", _minimax_m3),
    "qwen2_audio": ("audio_config", _qwen2_audio),
    "voxtral": ("audio_config", _voxtral),
}
"""Of each multi-modal `model_type`: the key of its tower's config, and what the tower consists of."""
