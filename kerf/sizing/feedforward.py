"""The feed-forward half of a decoder layer: dense, or experts with a router and shared experts."""

from kerf.sizing.attention import is_on, matrix, vector
from kerf.sizing.config import Config
from kerf.sizing.families import Family
from kerf.sizing.shape import Split, Tensor

MOST_EXPERTS = 65536


def dense(config: Config, family: Family, hidden: int, size: int, where: str = "mlp") -> list[Tensor]:
    """One feed-forward network of `size`."""
    names = ("gate_proj", "up_proj") if family.gated else ("up_proj",)
    parts = [matrix(f"{where}.{name}", size, hidden, Split.COLUMN) for name in names]
    parts.append(matrix(f"{where}.down_proj", hidden, size, Split.ROW))
    if is_on(config, family.mlp_bias):
        parts += [vector(f"{where}.{name}.bias", size, Split.COLUMN) for name in names]
        parts.append(vector(f"{where}.down_proj.bias", hidden))
    return parts


def expert_count(config: Config, family: Family) -> int:
    """Routed experts of a layer, 0 for a dense model. Raises WireError where a family of experts does not say."""
    if not family.experts:
        return 0
    keys = (family.experts, "num_experts", "num_local_experts", "n_routed_experts")
    if family.dense_too:
        return config.maybe(*keys, most=MOST_EXPERTS) or 0
    return config.whole(*dict.fromkeys(keys), least=0, most=MOST_EXPERTS)


def experts(config: Config, family: Family, hidden: int) -> list[Tensor]:
    """A layer of experts. All of them are resident, whichever a token takes."""
    count = expert_count(config, family)
    size = config.whole(*family.expert_dim)
    ups = 2 if family.expert_gated else 1
    narrow = config.maybe("moe_latent_size", least=1)  # nemotron_h: experts work on a compressed token
    inner = narrow or hidden
    parts = [
        Tensor("mlp.experts.up", ups * size, inner, Split.EXPERT_COLUMN, linear=True, count=count),
        Tensor("mlp.experts.down", inner, size, Split.EXPERT_ROW, linear=True, count=count),
        Tensor("mlp.gate", count, hidden),
    ]
    if narrow:
        parts += [
            matrix("mlp.fc1_latent_proj", narrow, hidden, Split.WHOLE),
            matrix("mlp.fc2_latent_proj", hidden, narrow, Split.WHOLE),
        ]
    if family.expert_bias:
        parts.append(Tensor("mlp.experts.up.bias", ups * size, 1, Split.EXPERT_COLUMN, count=count))
        parts.append(Tensor("mlp.experts.down.bias", hidden, 1, Split.EXPERT_ROW, count=count))
    if family.router_bias or (family.correction and config.flag("moe_use_aux_free", default=True)):
        parts.append(vector("mlp.gate.bias", count))
    return parts + _shared(config, family, hidden, size)


def _shared(config: Config, family: Family, hidden: int, size: int) -> list[Tensor]:
    width = _shared_width(config, family, size)
    if not width:
        return []
    names = ("gate_proj", "up_proj") if family.expert_gated else ("up_proj",)
    parts = [matrix(f"mlp.shared_experts.{name}", width, hidden, Split.COLUMN) for name in names]
    parts.append(matrix("mlp.shared_experts.down_proj", hidden, width, Split.ROW))
    if family.shared_gate:
        parts.append(Tensor("mlp.shared_expert_gate", 1, hidden))
    return parts


def _shared_width(config: Config, family: Family, size: int) -> int:
    if family.shared == "count":
        return size * config.whole(family.shared_key, "num_shared_experts", default=0, least=0)
    if family.shared == "size":
        return config.maybe(_size_key(family)) or 0
    return size if family.shared == "llama4" else 0


def _size_key(family: Family) -> str:
    return family.shared_key if family.shared_key != "n_shared_experts" else "shared_expert_intermediate_size"
