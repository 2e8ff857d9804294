"""Every weight of a model by name, shape and way of splitting, and the parameter counts that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from memplan.models.architecture import (
    CompressedAttention,
    Ffn,
    GatedDeltaNet,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    Layer,
    LinearFfn,
    LinearMixer,
    Mamba2,
    Mixer,
    ModelConfig,
    LookupTable,
    MoeFfn,
    QkNorm,
    SharedCompressedAttention,
)


class Group(str, Enum):
    """What a weight belongs to."""

    EMBEDDING = "embedding"
    LM_HEAD = "lm_head"
    ATTENTION = "attention"
    INDEXER = "indexer"
    DENSE_FFN = "dense_ffn"
    ROUTER = "router"
    EXPERTS = "experts"
    SHARED_EXPERTS = "shared_experts"
    NORM = "norm"
    HYPER_CONNECTIONS = "hyper_connections"
    VISION = "vision"
    LOOKUP = "lookup"


class Split(str, Enum):
    """
    How tensor parallelism divides a weight.

    `KV` is split by key/value heads and repeated where there are fewer heads than ranks; `EXPERT` follows the experts.
    """

    NONE = "none"
    HEADS = "heads"
    KV = "kv"
    WIDTH = "width"
    VOCABULARY = "vocabulary"
    EXPERT = "expert"


@dataclass(frozen=True, slots=True)
class Weight:
    """
    One weight tensor of `shape` elements; `copies` of it exist (routed experts).

    `units` is what a rank gets a whole number of along the split side: heads, key/value heads, columns. `linear` is
    true for the matrices of products, which quantisation applies to unless they are `wide`. `layer` is `None` outside the layers, and for the layers of
    multi-token prediction counts on behind the decoder's last one.
    """

    name: str
    group: Group
    shape: tuple[int, ...]
    split: Split = Split.NONE
    units: int = 1
    copies: int = 1
    linear: bool = False
    layer: int | None = None
    wide: bool = False

    @property
    def elements(self) -> int:
        """Elements of all copies."""
        return self.copies * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters in all, of the routed experts, of embedding and head, and those active for one token."""

    total: int
    experts: int
    embedding_and_head: int
    active: int
    by_group: tuple[tuple[str, int], ...]


def _matrix(name: str, group: Group, rows: int, columns: int, split: Split = Split.NONE, units: int = 1) -> Weight:
    return Weight(name, group, (rows, columns), split, units, linear=True)


def _wide_matrix(name: str, group: Group, rows: int, columns: int) -> Weight:
    """A matrix that checkpoints keep in 16 bits beside quantised ones."""
    return Weight(name, group, (rows, columns), linear=True, wide=True)


def _vector(name: str, group: Group, size: int, split: Split = Split.NONE, units: int = 1) -> Weight:
    return Weight(name, group, (size,), split, units)


def _grouped(mixer: GroupedAttention, hidden: int) -> Iterator[Weight]:
    group, heads, kv = Group.ATTENTION, mixer.heads, mixer.kv_heads
    q_width = heads * mixer.head_dim * (2 if mixer.gated else 1)
    k_width, v_width = kv * mixer.head_dim, kv * mixer.head_dim_v
    yield _matrix("q_proj", group, q_width, hidden, Split.HEADS, heads)
    if mixer.shares_kv_of is None:
        yield _matrix("k_proj", group, k_width, hidden, Split.KV, kv)
        if not mixer.keys_are_values:
            yield _matrix("v_proj", group, v_width, hidden, Split.KV, kv)
    yield _matrix("o_proj", group, hidden, heads * mixer.head_dim_v, Split.HEADS, heads)
    if mixer.qkv_bias:
        yield _vector("q_proj.bias", group, q_width, Split.HEADS, heads)
        yield _vector("k_proj.bias", group, k_width, Split.KV, kv)
        yield _vector("v_proj.bias", group, v_width, Split.KV, kv)
    if mixer.out_bias:
        yield _vector("o_proj.bias", group, hidden)
    if mixer.qk_norm is QkNorm.PER_HEAD:
        yield _vector("q_norm", Group.NORM, mixer.head_dim)
        if mixer.shares_kv_of is None:
            yield _vector("k_norm", Group.NORM, mixer.head_dim)
    elif mixer.qk_norm is QkNorm.ALL_HEADS:
        yield _vector("q_norm", Group.NORM, heads * mixer.head_dim, Split.HEADS, heads)
        yield _vector("k_norm", Group.NORM, k_width, Split.KV, kv)
    if mixer.sinks:
        yield _vector("sinks", group, heads, Split.HEADS, heads)


def _latent(mixer: LatentAttention, hidden: int) -> Iterator[Weight]:
    group, heads = Group.ATTENTION, mixer.heads
    qk_dim = mixer.nope_dim + mixer.rope_dim
    if mixer.q_lora_rank is None:
        yield _matrix("q_proj", group, heads * qk_dim, hidden, Split.HEADS, heads)
    else:
        yield _matrix("q_a_proj", group, mixer.q_lora_rank, hidden)
        yield _vector("q_a_layernorm", Group.NORM, mixer.q_lora_rank)
        yield _matrix("q_b_proj", group, heads * qk_dim, mixer.q_lora_rank, Split.HEADS, heads)
        if mixer.bias:
            yield _vector("q_a_proj.bias", group, mixer.q_lora_rank)
    yield _matrix("kv_a_proj_with_mqa", group, mixer.kv_lora_rank + mixer.rope_dim, hidden)
    if mixer.bias:
        yield _vector("kv_a_proj_with_mqa.bias", group, mixer.kv_lora_rank + mixer.rope_dim)
    yield _vector("kv_a_layernorm", Group.NORM, mixer.kv_lora_rank)
    kv_width = heads * (mixer.nope_dim + mixer.v_dim)
    yield _matrix("kv_b_proj", group, kv_width, mixer.kv_lora_rank, Split.HEADS, heads)
    yield _matrix("o_proj", group, hidden, heads * mixer.v_dim, Split.HEADS, heads)
    if mixer.bias:
        yield _vector("o_proj.bias", group, hidden)
    if mixer.gated:
        yield _matrix("g_proj", group, heads * mixer.v_dim, hidden, Split.HEADS, heads)
    if mixer.indexer is not None and mixer.q_lora_rank is not None:
        index = mixer.indexer
        yield _matrix("indexer.wq_b", Group.INDEXER, index.heads * index.head_dim, mixer.q_lora_rank)
        yield _matrix("indexer.wk", Group.INDEXER, index.head_dim, hidden)
        yield _vector("indexer.k_norm", Group.INDEXER, index.head_dim)
        yield _vector("indexer.k_norm.bias", Group.INDEXER, index.head_dim)
        yield _matrix("indexer.weights_proj", Group.INDEXER, index.heads, hidden)


def _windowed(mixer: CompressedAttention | SharedCompressedAttention, hidden: int) -> Iterator[Weight]:
    """Queries, the window's keys and values, and the output of DeepSeek-V4 attention."""
    group, heads, dim = Group.ATTENTION, mixer.heads, mixer.head_dim
    yield _vector("sinks", group, heads, Split.HEADS, heads)
    yield _matrix("q_a_proj", group, mixer.q_lora_rank, hidden)
    yield _vector("q_a_norm", Group.NORM, mixer.q_lora_rank)
    yield _matrix("q_b_proj", group, heads * dim, mixer.q_lora_rank, Split.HEADS, heads)
    yield _matrix("kv_proj", group, dim, hidden)
    yield _vector("kv_norm", Group.NORM, dim)
    groups, rank = mixer.out_groups, mixer.out_lora_rank
    yield _matrix("o_a_proj", group, groups * rank, heads * dim // groups, Split.HEADS, groups)
    yield _matrix("o_b_proj", group, hidden, groups * rank, Split.HEADS, groups)


def _shared_compressed(mixer: SharedCompressedAttention, hidden: int) -> Iterator[Weight]:
    yield from _windowed(mixer, hidden)
    dim = mixer.head_dim
    # What makes entries and index keys is stored in 16 bits beside quantised projections.
    if mixer.owns_entries:
        for name in ("kv_proj", "gate_proj") if mixer.ratio > 1 else ("kv_proj",):
            yield _wide_matrix(f"compressor.{name}", Group.ATTENTION, dim, hidden)
        yield _vector("compressor.kv_norm", Group.NORM, dim)
        yield _wide_matrix("indexer.wk", Group.INDEXER, mixer.index_dim, dim)
        yield _vector("indexer.k_norm", Group.INDEXER, mixer.index_dim)
    if mixer.indexer is not None:
        index = mixer.indexer
        yield _matrix("indexer.q_b_proj", Group.INDEXER, index.heads * index.head_dim, mixer.q_lora_rank)
        yield _wide_matrix("indexer.weights_proj", Group.INDEXER, index.heads, hidden)


def _compressed(mixer: CompressedAttention, hidden: int) -> Iterator[Weight]:
    yield from _windowed(mixer, hidden)
    group, dim = Group.ATTENTION, mixer.head_dim
    if mixer.ratio:
        width = mixer.overlap * dim
        yield _vector_table("compressor.position_bias", group, mixer.ratio, width)
        yield _matrix("compressor.kv_proj", group, width, hidden)
        yield _matrix("compressor.gate_proj", group, width, hidden)
        yield _vector("compressor.kv_norm", Group.NORM, dim)
    if mixer.indexer is not None:
        index = mixer.indexer
        width = mixer.overlap * index.head_dim
        yield _vector_table("indexer.position_bias", Group.INDEXER, mixer.ratio, width)
        yield _matrix("indexer.kv_proj", Group.INDEXER, width, hidden)
        yield _matrix("indexer.gate_proj", Group.INDEXER, width, hidden)
        yield _vector("indexer.kv_norm", Group.INDEXER, index.head_dim)
        yield _matrix("indexer.q_b_proj", Group.INDEXER, index.heads * index.head_dim, mixer.q_lora_rank)
        yield _matrix("indexer.weights_proj", Group.INDEXER, index.heads, hidden)


def _vector_table(name: str, group: Group, rows: int, columns: int) -> Weight:
    return Weight(name, group, (rows, columns))


def _delta_net(mixer: GatedDeltaNet, hidden: int) -> Iterator[Weight]:
    group, heads = Group.ATTENTION, mixer.value_heads
    inner = heads * mixer.value_dim
    yield _matrix("in_proj_qkv", group, mixer.conv_dim, hidden, Split.HEADS, mixer.key_heads)
    yield _matrix("in_proj_z", group, inner, hidden, Split.HEADS, heads)
    yield _matrix("in_proj_ba", group, 2 * heads, hidden, Split.HEADS, heads)
    yield Weight("conv1d", group, (mixer.conv_dim, mixer.conv_kernel), Split.HEADS, mixer.key_heads)
    yield _vector("dt_bias", group, heads, Split.HEADS, heads)
    yield _vector("A_log", group, heads, Split.HEADS, heads)
    yield _vector("norm", Group.NORM, mixer.value_dim)
    yield _matrix("out_proj", group, hidden, inner, Split.HEADS, heads)


def _mamba(mixer: Mamba2, hidden: int) -> Iterator[Weight]:
    group, heads = Group.ATTENTION, mixer.heads
    projected = mixer.inner + mixer.conv_dim + heads
    yield _matrix("in_proj", group, projected, hidden, Split.HEADS, heads)
    yield Weight("conv1d", group, (mixer.conv_dim, mixer.conv_kernel), Split.HEADS, heads)
    if mixer.conv_bias:
        yield _vector("conv1d.bias", group, mixer.conv_dim, Split.HEADS, heads)
    for name in ("dt_bias", "A_log", "D"):
        yield _vector(name, group, heads, Split.HEADS, heads)
    yield _vector("norm", Group.NORM, mixer.inner, Split.HEADS, heads)
    yield _matrix("out_proj", group, hidden, mixer.inner, Split.HEADS, heads)
    if mixer.proj_bias:
        yield _vector("in_proj.bias", group, projected, Split.HEADS, heads)
        yield _vector("out_proj.bias", group, hidden)


def _kimi_delta(mixer: KimiDelta, hidden: int) -> Iterator[Weight]:
    group, heads, width, dim = Group.ATTENTION, mixer.heads, mixer.width, mixer.head_dim
    for name in ("q", "k", "v"):
        yield _matrix(f"{name}_proj", group, width, hidden, Split.HEADS, heads)
        yield Weight(f"{name}_conv1d", group, (width, mixer.conv_kernel), Split.HEADS, heads)
    # Checkpoints with the full-rank gate hold as many decay rates as a head has elements (Kimi-K3: 128 for 96 heads).
    yield _vector("A_log", group, dim) if mixer.full_rank_gate else _vector("A_log", group, heads, Split.HEADS, heads)
    for name in ("f",) if mixer.full_rank_gate else ("f", "g"):
        yield _matrix(f"{name}_a_proj", group, dim, hidden)
        yield _matrix(f"{name}_b_proj", group, width, dim, Split.HEADS, heads)
    if mixer.full_rank_gate:
        yield _matrix("g_proj", group, width, hidden, Split.HEADS, heads)
    yield _vector("dt_bias", group, width, Split.HEADS, heads)
    yield _matrix("b_proj", group, heads, hidden, Split.HEADS, heads)
    yield _vector("o_norm", Group.NORM, dim)
    yield _matrix("o_proj", group, hidden, width, Split.HEADS, heads)


def _mixer(mixer: Mixer, hidden: int) -> Iterator[Weight]:
    if isinstance(mixer, GroupedAttention):
        return _grouped(mixer, hidden)
    if isinstance(mixer, LatentAttention):
        return _latent(mixer, hidden)
    if isinstance(mixer, CompressedAttention):
        return _compressed(mixer, hidden)
    if isinstance(mixer, SharedCompressedAttention):
        return _shared_compressed(mixer, hidden)
    if isinstance(mixer, GatedDeltaNet):
        return _delta_net(mixer, hidden)
    if isinstance(mixer, Mamba2):
        return _mamba(mixer, hidden)
    if isinstance(mixer, LinearMixer):
        return iter((_matrix("linear_attn", Group.ATTENTION, hidden, hidden, Split.WIDTH, hidden),))
    return _kimi_delta(mixer, hidden)


def _dense(group: Group, prefix: str, width: int, hidden: int, *, gated: bool, bias: bool = False) -> Iterator[Weight]:
    names = ("gate_proj", "up_proj") if gated else ("up_proj",)
    for name in names:
        yield _matrix(f"{prefix}{name}", group, width, hidden, Split.WIDTH, width)
        if bias:
            yield _vector(f"{prefix}{name}.bias", group, width, Split.WIDTH, width)
    yield _matrix(f"{prefix}down_proj", group, hidden, width, Split.WIDTH, width)
    if bias:
        yield _vector(f"{prefix}down_proj.bias", group, hidden)


def _moe(ffn: MoeFfn, hidden: int) -> Iterator[Weight]:
    working = ffn.latent or hidden
    ups = 2 if ffn.gated else 1
    width = ffn.intermediate
    yield _matrix("router", Group.ROUTER, ffn.experts, hidden)
    if ffn.router_biases:
        yield _vector("router.bias", Group.ROUTER, ffn.router_biases * ffn.experts)
    if ffn.router_scales:
        yield _vector("router.scale", Group.ROUTER, hidden)
        yield _vector("router.per_expert_scale", Group.ROUTER, ffn.experts)
    for name, shape in (("up", (ups * width, working)), ("down", (working, width))):
        yield Weight(f"experts.{name}_proj", Group.EXPERTS, shape, Split.EXPERT, width, copies=ffn.experts, linear=True)
        if ffn.expert_bias:
            yield Weight(f"experts.{name}_proj.bias", Group.EXPERTS, shape[:1], Split.EXPERT, width, copies=ffn.experts)
    if ffn.latent is not None:
        yield _matrix("fc1_latent_proj", Group.SHARED_EXPERTS, ffn.latent, hidden)
        yield _matrix("fc2_latent_proj", Group.SHARED_EXPERTS, hidden, ffn.latent)
        if ffn.latent_norm:
            yield _vector("latent_norm", Group.NORM, ffn.latent)
    if ffn.dense_intermediate:
        yield from _dense(Group.DENSE_FFN, "", ffn.dense_intermediate, hidden, gated=ffn.gated)
    if ffn.shared_intermediate:
        yield from _dense(Group.SHARED_EXPERTS, "shared_experts.", ffn.shared_intermediate, hidden, gated=ffn.gated)
    if ffn.shared_gate:
        yield _matrix("shared_expert_gate", Group.SHARED_EXPERTS, 1, hidden)


def _ffn(ffn: Ffn, hidden: int) -> Iterator[Weight]:
    if isinstance(ffn, MoeFfn):
        return _moe(ffn, hidden)
    if isinstance(ffn, LinearFfn):
        return iter((_matrix("linear_mlp", Group.DENSE_FFN, hidden, hidden, Split.WIDTH, hidden),))
    return _dense(Group.DENSE_FFN, "", ffn.intermediate, hidden, gated=ffn.gated, bias=ffn.bias)


def _streams(name: str, streams: int, hidden: int) -> Iterator[Weight]:
    """Weights of one hyper-connection: read, write and mixing coefficients of `streams` residual streams."""
    coefficients = streams * (2 + streams)
    yield Weight(f"{name}.fn", Group.HYPER_CONNECTIONS, (coefficients, streams * hidden))
    yield Weight(f"{name}.base", Group.HYPER_CONNECTIONS, (coefficients,))
    yield Weight(f"{name}.scale", Group.HYPER_CONNECTIONS, (3,))


def _lookup(table: LookupTable, streams: int, hidden: int) -> Iterator[Weight]:
    """The table, the projection of what is found to a key for each stream and a value, and the gates' weights."""
    yield Weight(
        "lookup.table", Group.LOOKUP, (table.rows, table.width), Split.HEADS, table.heads
    )
    yield _matrix(
        "lookup.kv_proj", Group.ATTENTION, (streams + 1) * hidden, table.heads * table.width, Split.WIDTH, hidden
    )
    for name in ("q_weight", "k_weight"):
        yield Weight(f"lookup.{name}", Group.NORM, (streams, hidden))


def _residuals(parts: tuple[str, ...], hidden: int) -> list[Weight]:
    """The vector that weighs earlier outputs for each of `parts`, and its norm."""
    return [_vector(f"{part}_res_{name}", Group.NORM, hidden) for part in parts for name in ("norm", "proj")]


def layer_weights(config: ModelConfig, layer: Layer) -> tuple[Weight, ...]:
    """The weights of one layer, named within it; their `layer` is `layer.index`."""
    hidden = config.hidden_size
    found: list[Weight] = [_vector(f"norm.{number}", Group.NORM, hidden) for number in range(layer.norms)]
    if layer.mixer is not None:
        found += _mixer(layer.mixer, hidden)
    if layer.ffn is not None:
        found += _ffn(layer.ffn, hidden)
    if layer.lookup is not None:
        found += _lookup(layer.lookup, config.hyper.streams if config.hyper is not None else 1, hidden)
    if config.hyper is not None:
        for name in ("attn_hc", "ffn_hc"):
            found += _streams(name, config.hyper.streams, hidden)
    if config.attention_residuals:
        found += _residuals(("attention", "ffn"), hidden)
    if config.per_layer_inputs is not None:
        width = config.per_layer_inputs.width
        found += [
            _matrix("per_layer_input_gate", Group.DENSE_FFN, width, hidden),
            _matrix("per_layer_projection", Group.DENSE_FFN, hidden, width),
            _vector("post_per_layer_input_norm", Group.NORM, hidden),
        ]
    return tuple(_in_layer(weight, layer.index) for weight in found)


def _in_layer(weight: Weight, layer: int) -> Weight:
    return Weight(
        f"layers.{layer}.{weight.name}",
        weight.group,
        weight.shape,
        weight.split,
        weight.units,
        weight.copies,
        weight.linear,
        layer,
        weight.wide,
    )


def outer_weights(config: ModelConfig) -> tuple[Weight, ...]:
    """The weights outside the layers: embedding, final norm, head, vision tower."""
    hidden, vocab = config.hidden_size, config.vocab_size
    found = [
        Weight("embed_tokens", Group.EMBEDDING, (vocab, hidden), Split.VOCABULARY, vocab),
        _vector("norm", Group.NORM, hidden),
    ]
    if config.hyper is not None and config.hyper.learnt_head:
        streams = config.hyper.streams
        found += [
            Weight("hc_head.fn", Group.HYPER_CONNECTIONS, (streams, streams * hidden)),
            Weight("hc_head.base", Group.HYPER_CONNECTIONS, (streams,)),
            Weight("hc_head.scale", Group.HYPER_CONNECTIONS, (1,)),
        ]
    if config.attention_residuals:
        found += _residuals(("output",), hidden)
    if config.per_layer_inputs is not None:
        extra = config.per_layer_inputs
        width = len(config.layers) * extra.width
        found += [
            Weight("embed_per_layer", Group.EMBEDDING, (extra.vocab_size, width), Split.VOCABULARY, extra.vocab_size),
            _matrix("per_layer_model_projection", Group.DENSE_FFN, width, hidden),
            _vector("per_layer_projection_norm", Group.NORM, extra.width),
        ]
    if not config.tied_embeddings:
        found.append(Weight("lm_head", Group.LM_HEAD, (vocab, hidden), Split.VOCABULARY, vocab))
    if config.vision is not None and config.vision.parameters is not None:
        found.append(Weight("vision", Group.VISION, (config.vision.parameters,)))
    return tuple(found)


def weights(config: ModelConfig, *, mtp: bool = False) -> tuple[Weight, ...]:
    """Every weight of the model; `mtp` adds the layers of multi-token prediction with their two norms and mixer."""
    found = list(outer_weights(config))
    for layer in config.layers:
        found += layer_weights(config, layer)
    if mtp:
        hidden = config.hidden_size
        for layer in config.mtp_layers:
            found += layer_weights(config, layer)
            found.append(_in_layer(_matrix("eh_proj", Group.DENSE_FFN, hidden, 2 * hidden), layer.index))
            found += [_in_layer(_vector(f"mtp_norm.{n}", Group.NORM, hidden), layer.index) for n in range(3)]
    return tuple(found)


def parameter_counts(config: ModelConfig, *, mtp: bool = False, vision: bool = False) -> ParameterCounts:
    """
    Parameters of the decoder as its reference implementation counts them.

    `vision` adds the vision tower, `mtp` the layers of multi-token prediction. Active parameters count the routed
    experts by `per_token / experts`, and of lookup tables the rows that one token reads.
    """
    kept = [item for item in weights(config, mtp=mtp) if vision or item.group is not Group.VISION]
    by_group: dict[str, int] = {}
    for item in kept:
        by_group[item.group.value] = by_group.get(item.group.value, 0) + item.elements
    per_token = {
        layer.index: layer.ffn.per_token
        for layer in (*config.layers, *config.mtp_layers)
        if isinstance(layer.ffn, MoeFfn)
    }
    active_experts = sum(
        item.elements // item.copies * per_token[item.layer]
        for item in kept
        if item.group is Group.EXPERTS and item.layer is not None
    )
    looked_up = by_group.get(Group.LOOKUP.value, 0)
    read = sum(layer.lookup.heads * layer.lookup.width for layer in config.layers if layer.lookup is not None)
    total, experts = sum(by_group.values()), by_group.get(Group.EXPERTS.value, 0)
    return ParameterCounts(
        total=total,
        experts=experts,
        embedding_and_head=by_group.get(Group.EMBEDDING.value, 0) + by_group.get(Group.LM_HEAD.value, 0),
        active=total - experts + active_experts - looked_up + read,
        by_group=tuple(sorted(by_group.items())),
    )
