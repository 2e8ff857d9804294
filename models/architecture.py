"""
What a `config.json` describes: the layers of a decoder, each a token mixer and a feed-forward part.

Sizes are elements. Nothing here knows a chip, an engine or a parallel layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class QkNorm(str, Enum):
    """Where queries and keys are normalised: nowhere, per head with a shared weight, or over all heads at once."""

    NONE = "none"
    PER_HEAD = "per_head"
    ALL_HEADS = "all_heads"


class TokenMixer:
    """What mixes the tokens of a sequence in a layer."""

    __slots__ = ()

    @property
    def reads(self) -> int | None:
        """The earlier layer whose cache is read, `None` for a layer that reads its own or none."""
        return None


@dataclass(frozen=True, slots=True)
class GroupedAttention(TokenMixer):
    """
    Softmax attention with `kv_heads` <= `heads` key/value heads (MHA, GQA, MQA).

    `window` is the sliding window and `chunk` the local chunk, in tokens; `None` is full attention. `gated` doubles
    the query projection by an output gate. `keys_are_values` stores one vector for both. `shares_kv_of` names the
    layer whose cache a KV-sharing layer reads instead of its own.
    """

    heads: int
    kv_heads: int
    head_dim: int
    head_dim_v: int
    window: int | None = None
    chunk: int | None = None
    qk_norm: QkNorm = QkNorm.NONE
    qkv_bias: bool = False
    out_bias: bool = False
    gated: bool = False
    sinks: bool = False
    keys_are_values: bool = False
    shares_kv_of: int | None = None

    @property
    def reads(self) -> int | None:
        """The layer whose cache this one shares."""
        return self.shares_kv_of


@dataclass(frozen=True, slots=True)
class Indexer:
    """Selects `topk` cached tokens per query; keeps keys of `head_dim` elements per token."""

    heads: int
    head_dim: int
    topk: int


@dataclass(frozen=True, slots=True)
class LatentAttention(TokenMixer):
    """
    Multi-head latent attention (MLA): the cache holds `kv_lora_rank + rope_dim` elements per token for all heads.

    With an `indexer` only its choice of tokens is attended (DSA). `shares_index` marks a layer that reuses the choice
    of an earlier layer's indexer and has none of its own. `gated` multiplies the output by a gate of its width.
    """

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    indexer: Indexer | None = None
    shares_index: bool = False
    bias: bool = False
    gated: bool = False


@dataclass(frozen=True, slots=True)
class CompressedAttention(TokenMixer):
    """
    DeepSeek-V4 attention: a sliding window of `window` tokens and, where `ratio` > 0, one entry per `ratio` tokens.

    `ratio` 4 is CSA (overlapping compression and an `indexer`), 128 is HCA, 0 is the window alone. Keys and values
    are one vector of `head_dim` elements. The output is projected in `out_groups` groups through `out_lora_rank`.
    """

    heads: int
    head_dim: int
    rope_dim: int
    q_lora_rank: int
    out_groups: int
    out_lora_rank: int
    window: int
    ratio: int
    indexer: Indexer | None = None

    @property
    def overlap(self) -> int:
        """2 where neighbouring compressed entries overlap (CSA), else 1: the factor on the compressor's widths."""
        return 2 if self.indexer is not None else 1


@dataclass(frozen=True, slots=True)
class SharedCompressedAttention(TokenMixer):
    """
    DeepSeek-V4.1 attention: a sliding window of each layer's own, and compressed entries that few layers keep.

    `source` is the layer whose entries are read, one for `ratio` tokens; the layer itself where `owns_entries`.
    `None` is the window alone. `top_k` entries are attended, chosen by the layer's `indexer` or, without one, by that
    of an earlier layer; the keys to choose by are made from the entries and stand beside them. Queries, keys, values
    and the output are as in `CompressedAttention`.
    """

    heads: int
    head_dim: int
    rope_dim: int
    q_lora_rank: int
    out_groups: int
    out_lora_rank: int
    window: int
    ratio: int
    source: int | None = None
    owns_entries: bool = False
    top_k: int = 0
    index_dim: int = 0
    indexer: Indexer | None = None

    @property
    def reads(self) -> int | None:
        """The layer that keeps the entries, where it is another one."""
        return None if self.owns_entries else self.source


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(TokenMixer):
    """Linear attention of Qwen3-Next and Qwen3.5: a convolution window and a matrix state per value head."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int
    state_dtype: str

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class Mamba2(TokenMixer):
    """State-space mixer of Nemotron-H: a convolution window and a `head_dim x state` matrix per head."""

    heads: int
    head_dim: int
    groups: int
    state: int
    conv_kernel: int
    conv_bias: bool
    proj_bias: bool
    state_dtype: str

    @property
    def inner(self) -> int:
        """Width of the mixer."""
        return self.heads * self.head_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: the inner width and both projections of the state."""
        return self.inner + 2 * self.groups * self.state


@dataclass(frozen=True, slots=True)
class KimiDelta(TokenMixer):
    """
    Kimi delta attention (KDA): convolutions over queries, keys and values and a square state per head.

    The output gate is a product of two narrow matrices, or with `full_rank_gate` one of the mixer's width.
    """

    heads: int
    head_dim: int
    conv_kernel: int
    state_dtype: str
    full_rank_gate: bool = False

    @property
    def width(self) -> int:
        """Channels of each of queries, keys and values."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class LinearMixer(TokenMixer):
    """A plain linear layer in the place of attention (NAS-pruned models)."""


Mixer = (
    GroupedAttention
    | LatentAttention
    | CompressedAttention
    | SharedCompressedAttention
    | GatedDeltaNet
    | Mamba2
    | KimiDelta
    | LinearMixer
)


@dataclass(frozen=True, slots=True)
class DenseFfn:
    """Feed-forward layer; `gated` has a gate and an up projection (SwiGLU), otherwise one up projection."""

    intermediate: int
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True)
class LinearFfn:
    """A plain linear layer in the place of the feed-forward part (NAS-pruned models)."""


@dataclass(frozen=True, slots=True)
class MoeFfn:
    """
    Mixture of experts: `per_token` of `experts` routed experts of width `intermediate`, and one shared expert.

    `shared_intermediate` is the shared expert's whole width, 0 for none; `shared_gate` weighs it by a learnt gate.
    `latent` is the width the routed experts work in when it is not the model's, `latent_norm` that tokens are
    normalised in it. `dense_intermediate` is a dense part that runs beside the experts, 0 for none. `router_scales`
    are learnt factors of the router's input and of each expert, `router_biases` how many learnt biases of the experts
    the choice is made by (DeepSeek-V4.1 has one for text and one for images).
    """

    experts: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    shared_gate: bool = False
    gated: bool = True
    router_biases: int = 0
    expert_bias: bool = False
    latent: int | None = None
    latent_norm: bool = False
    dense_intermediate: int = 0
    router_scales: bool = False


Ffn = DenseFfn | MoeFfn | LinearFfn


@dataclass(frozen=True, slots=True)
class LookupTable:
    """
    A table of n-gram embeddings that a layer adds to the residual stream (Engram, DeepSeek-V4.1).

    Each token looks up a row of `width` elements in each of `heads` hashes, `rows` in all of them together; what is
    found is projected to one key for each residual stream and one value, and gates of stream and key weigh the value.
    """

    rows: int
    width: int
    heads: int


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One layer: what mixes tokens, what works on each token, and how many norms of the model's width it has.

    What `lookup` finds is added to the stream before both.
    """

    index: int
    mixer: Mixer | None
    ffn: Ffn | None
    norms: int = 2
    lookup: LookupTable | None = None


@dataclass(frozen=True, slots=True)
class PerLayerInputs:
    """A second embedding of `vocab_size` tokens gives every layer `width` elements of its own (Gemma 4)."""

    vocab_size: int
    width: int


@dataclass(frozen=True, slots=True)
class HyperConnections:
    """
    The residual stream is `streams` times as wide; every block mixes the streams with learnt weights.

    Without a `learnt_head` the last block's own coefficients bring the streams together for the head.
    """

    streams: int
    learnt_head: bool = True


@dataclass(frozen=True, slots=True)
class Quantization:
    """
    How the published weights are stored.

    `method` is the file's own word. `linear_bits` and `expert_bits` are the bits of an element of a linear layer and
    of a routed expert, `group` how many elements share one scale of `scale_bits`; `None` means unquantised. Lookup
    tables have 8 bits and one 8-bit scale for `lookup_group` elements, or are unquantised where that is 0.
    """

    method: str
    linear_bits: int | None
    expert_bits: int | None
    linear_group: int
    expert_group: int
    linear_scale_bits: int
    expert_scale_bits: int
    expert_only: bool = False
    lookup_group: int = 0


@dataclass(frozen=True, slots=True)
class VisionTower:
    """A vision encoder beside the decoder: its parameters by part, or `None` where its layout is not known here."""

    model_type: str
    parameters: int | None
    layers: int
    hidden_size: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """
    A model as its `config.json` describes it.

    `family` is memplan's name of the architecture. `mtp_layers` are the layers of multi-token prediction that a
    checkpoint carries beside the decoder; engines load them only for speculative decoding, and parameter counts
    leave them out unless asked. `attention_residuals` mixes the outputs of earlier blocks of layers into each part by
    a learnt vector and its norm. `notes` lists what was taken from a documented default and what is not modelled.
    """

    name: str
    model_type: str
    family: str
    hidden_size: int
    vocab_size: int
    max_positions: int
    tied_embeddings: bool
    dtype: str
    layers: tuple[Layer, ...]
    mtp_layers: tuple[Layer, ...] = ()
    hyper: HyperConnections | None = None
    per_layer_inputs: PerLayerInputs | None = None
    attention_residuals: bool = False
    vision: VisionTower | None = None
    quantization: Quantization | None = None
    origin: str = ""
    notes: tuple[str, ...] = field(default=())
