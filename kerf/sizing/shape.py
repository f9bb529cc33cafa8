"""What a model consists of: its weights as matrices that ranks share out, and what each layer keeps per token."""

from dataclasses import dataclass
from enum import StrEnum


class Split(StrEnum):
    """How tensor parallelism divides a matrix."""

    COLUMN = "column"  # outputs divided: rows / tp
    ROW = "row"  # inputs divided: columns / tp
    KV = "kv"  # outputs by whole KV heads: a head is copied where there are more ranks than heads
    WHOLE = "whole"  # every rank has all of it
    VOCAB = "vocab"  # rows padded to a multiple of 64 and of tp, then divided
    EXPERT_COLUMN = "expert-column"  # whole experts by expert parallelism, else rows / tp
    EXPERT_ROW = "expert-row"


@dataclass(frozen=True, slots=True)
class Tensor:
    """`count` matrices of one name and size. Vectors have one column. `linear`: a quantiser may pack it."""

    name: str
    rows: int
    cols: int = 1
    split: Split = Split.WHOLE
    linear: bool = False
    count: int = 1
    units: int = 1
    """Heads whose rows belong together, for Split.KV."""
    copied: bool = False
    """On a card and no parameter: a table, or another matrix that the engine loads a second time."""
    width: int = 0
    """Bytes of a number, for those that keep a width of their own. 0: the model's."""

    @property
    def params(self) -> int:
        """Parameters in all of them."""
        return 0 if self.copied else self.rows * self.cols * self.count


class Kind(StrEnum):
    """What a layer keeps of the tokens that it has seen."""

    FULL = "full"  # keys and values of every token
    SLIDING = "sliding"  # of the last `window` tokens
    CHUNKED = "chunked"  # of the current chunk of `window` tokens
    LATENT = "latent"  # one compressed vector per token, the same on every rank (MLA)
    INDEX = "index"  # the keys of a sparse-attention indexer, the same on every rank
    KEYS = "keys"  # the keys by which blocks of tokens are chosen, at 16 bits, the same on every rank
    STATE = "state"  # a state of constant size per sequence (Mamba, linear attention, short convolution)
    CROSS = "cross"  # keys and values of the encoder's output, once per request


@dataclass(frozen=True, slots=True)
class State:
    """The constant state of a recurrent layer, in elements of the whole model."""

    conv_dim: int
    conv_len: int
    heads: int = 0
    per_head: int = 0
    groups: int = 0
    group_size: int = 0
    """Elements of `conv_dim` that each of the 2 x `groups` groups adds; ranks beyond the groups get copies."""
    ssm_bytes: int = 2


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache of one layer. `dim_v` is 0 where values are not kept apart."""

    kind: Kind
    heads: int = 1
    dim: int = 0
    dim_v: int = 0
    window: int = 0
    state: State | None = None
    block: int = 0
    """Tokens of a block, where the engine gives this cache one of its own."""
    page: int = 0
    """Bytes of such a block, padding included; the same on every rank."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the model."""

    tensors: tuple[Tensor, ...]
    caches: tuple[Cache, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """A model. `embed` is on the first pipeline stage, `head` on the last; `tied`: the head is the embedding."""

    family: str
    task: str
    hidden: int
    vocab: int
    heads: int
    kv_heads: int
    width: int
    """The widest activation of a layer per token, in elements."""
    embed: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    head: tuple[Tensor, ...]
    towers: tuple[Tensor, ...] = ()
    tied: bool = False
    prefix: str = "model.layers"
    experts: int = 0
    latent: bool = False
    unpacked: tuple[int, int, int] | None = None
    """Of latent attention: width of a latent, and of one head's keys and values without and with a second copy."""
    choose: int = 0
    """Keys that sparse attention chooses for a token; 0: it takes all."""
    groups: int = 0
    """Groups of heads that ranks share out whole; 0: none."""
    flat: int = 0
    """Elements per token that every rank holds at once, beside `width`."""
    encoder_len: int = 0
    """Tokens that an encoder hands to cross-attention."""

    @property
    def params(self) -> int:
        """Parameters of the whole model, tied embeddings once."""
        head = [part for part in self.head if not (self.tied and part.name == "lm_head")]
        parts = [*self.embed, *head, *self.towers]
        return sum(part.params for part in parts) + sum(part.params for layer in self.layers for part in layer.tensors)

    @property
    def generates(self) -> bool:
        """Whether it keeps a cache between tokens."""
        return any(layer.caches for layer in self.layers)
