"""Every weight of a model by name, shape and way of splitting, and the parameter counts that follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.models.architecture import AlternatingStreams, HyperConnections, Layer, LookupTable, ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.weight_shapes import Split, Weight, WeightGroup, matrix_weight, table_weight, vector_weight


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters in all, of the routed experts, of embedding and head, and those active for one token."""

    total: int
    experts: int
    embedding_and_head: int
    active: int
    by_group: tuple[tuple[str, int], ...]


PER_LAYER_TABLE = "embed_per_layer"
"""The name of the second embedding, which gives every layer elements of its own."""
JOIN = "eh_proj"
"""The name of what joins embedding and hidden state for a layer that predicts a further token."""


def _streams(name: str, hyper: HyperConnections, hidden: int) -> Iterator[Weight]:
    """Weights of one hyper-connection: read, write and mixing coefficients of residual streams."""
    streams = hyper.streams
    if hyper.low_rank is not None:
        yield from _low_rank_streams(name, hyper.low_rank, streams * hidden)
        yield Weight(f"{name}.inject", WeightGroup.HYPER_CONNECTIONS, (streams, streams * hidden))
        return
    coefficients = streams * (2 + streams)
    yield Weight(f"{name}.fn", WeightGroup.HYPER_CONNECTIONS, (coefficients, streams * hidden))
    yield Weight(f"{name}.base", WeightGroup.HYPER_CONNECTIONS, (coefficients,))
    yield Weight(f"{name}.scale", WeightGroup.HYPER_CONNECTIONS, (3,))


def _low_rank_streams(name: str, rank: int, wide: int) -> Iterator[Weight]:
    """What reads all streams, `wide` elements, through a product of two matrices of a low rank, behind a norm."""
    yield Weight(f"{name}.norm", WeightGroup.NORM, (wide,))
    yield Weight(f"{name}.down", WeightGroup.HYPER_CONNECTIONS, (rank, wide))
    yield Weight(f"{name}.up", WeightGroup.HYPER_CONNECTIONS, (wide, rank))


def _lookup(table: LookupTable, streams: int, hidden: int) -> Iterator[Weight]:
    """The table, the projection of what is found to a key for each stream and a value, and the gates' weights."""
    split = (Split.VOCABULARY, table.rows) if table.by_row else (Split.HEADS, table.heads)
    yield Weight("lookup.table", WeightGroup.LOOKUP, (table.rows, table.width), *split)
    yield matrix_weight(
        "lookup.kv_proj", WeightGroup.ATTENTION, (streams + 1) * hidden, table.heads * table.width, Split.WIDTH, hidden
    )
    for name in ("q_weight", "k_weight", "conv_weight")[: 3 if table.conv_kernel else 2]:
        yield Weight(f"lookup.{name}", WeightGroup.NORM, (streams, hidden))
    if table.conv_kernel:
        yield Weight("lookup.conv1d", WeightGroup.ATTENTION, (streams * hidden, table.conv_kernel))


def _alternating(kept: AlternatingStreams, hidden: int) -> Iterator[Weight]:
    """What a layer has beside its parts: the low-rank product, and coefficients to predict and correct streams."""
    count, group = kept.streams, WeightGroup.HYPER_CONNECTIONS
    yield matrix_weight("laurel_left", WeightGroup.ATTENTION, kept.low_rank, hidden)
    yield matrix_weight("laurel_right", WeightGroup.ATTENTION, hidden, kept.low_rank)
    yield vector_weight("laurel_norm", WeightGroup.NORM, hidden)
    yield matrix_weight("altup_router", WeightGroup.ROUTER, count, hidden)
    yield vector_weight("altup_router_norm", WeightGroup.NORM, hidden)
    yield Weight("altup_prediction", group, (count * count, count))
    yield Weight("altup_correction", group, (count, count))
    yield vector_weight("altup_scale", WeightGroup.NORM, hidden)


def _residuals(parts: tuple[str, ...], hidden: int) -> list[Weight]:
    """The vector that weighs earlier outputs for each of `parts`, and its norm."""
    return [
        vector_weight(f"{part}_res_{name}", WeightGroup.NORM, hidden) for part in parts for name in ("norm", "proj")
    ]


def _norm(name: str, hidden: int, *, bias: bool) -> list[Weight]:
    weights_ = [vector_weight(name, WeightGroup.NORM, hidden)]
    return [*weights_, vector_weight(f"{name}.bias", WeightGroup.NORM, hidden)] if bias else weights_


def layer_weights(config: ModelConfig, layer: Layer) -> tuple[Weight, ...]:
    """The weights of one layer, named within it; their `layer` is `layer.index`."""
    hidden = config.hidden_size
    found: list[Weight] = []
    for number in range(layer.norms):
        found += _norm(f"norm.{number}", hidden, bias=config.norm_bias)
    if layer.mixer is not None:
        found += layer.mixer.weights(hidden)
    if layer.ffn is not None:
        found += layer.ffn.weights(hidden)
    if layer.lookup is not None:
        found += _lookup(layer.lookup, config.hyper.streams if config.hyper is not None else 1, hidden)
    if config.hyper is not None:
        for name in ("attn_hc", "ffn_hc"):
            found += _streams(name, config.hyper, hidden)
    if config.attention_residuals:
        found += _residuals(("attention", "ffn"), hidden)
    if config.alternating is not None:
        found += _alternating(config.alternating, hidden)
    if config.per_layer_inputs is not None:
        width = config.per_layer_inputs.width
        found += [
            matrix_weight("per_layer_input_gate", WeightGroup.DENSE_FFN, width, hidden),
            matrix_weight("per_layer_projection", WeightGroup.DENSE_FFN, hidden, width),
            vector_weight("post_per_layer_input_norm", WeightGroup.NORM, hidden),
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
        Weight("embed_tokens", WeightGroup.EMBEDDING, (vocab, hidden), Split.VOCABULARY, vocab, looked_up=True),
    ]
    if config.final_norm:
        found += _norm("norm", hidden, bias=config.norm_bias)
    if config.position_rows:
        positions = table_weight("embed_positions", WeightGroup.EMBEDDING, config.position_rows, hidden)
        found.append(replace(positions, looked_up=True))
    if config.embedding_norm:
        found += [replace(item, looked_up=True) for item in _norm("embed_norm", hidden, bias=config.norm_bias)]
    if config.hyper is not None and config.hyper.learnt_head:
        streams = config.hyper.streams
        found += (
            list(_low_rank_streams("hc_head", config.hyper.low_rank, streams * hidden))
            if config.hyper.low_rank is not None
            else [
                Weight("hc_head.fn", WeightGroup.HYPER_CONNECTIONS, (streams, streams * hidden)),
                Weight("hc_head.base", WeightGroup.HYPER_CONNECTIONS, (streams,)),
                Weight("hc_head.scale", WeightGroup.HYPER_CONNECTIONS, (1,)),
            ]
        )
    if config.attention_residuals:
        found += _residuals(("output",), hidden)
    if config.alternating is not None:
        others = (config.alternating.streams - 1) * hidden
        found += [
            replace(matrix_weight("altup_projections", WeightGroup.DENSE_FFN, others, hidden), looked_up=True),
            matrix_weight("altup_unembed_projections", WeightGroup.DENSE_FFN, others, hidden),
        ]
    if config.per_layer_inputs is not None:
        extra = config.per_layer_inputs
        width = len(config.layers) * extra.width
        words = extra.vocab_size
        own = (
            Weight(PER_LAYER_TABLE, WeightGroup.EMBEDDING, (words, width), Split.VOCABULARY, words),
            matrix_weight("per_layer_model_projection", WeightGroup.DENSE_FFN, width, hidden),
            vector_weight("per_layer_projection_norm", WeightGroup.NORM, extra.width),
        )
        found += [replace(item, looked_up=True) for item in own]
    if not config.tied_embeddings:
        found.append(Weight("lm_head", WeightGroup.LM_HEAD, (vocab, hidden), Split.VOCABULARY, vocab))
    if config.head_bias:
        found.append(vector_weight("lm_head.bias", WeightGroup.LM_HEAD, vocab, Split.VOCABULARY, vocab))
    if config.vision is not None and config.vision.parameters is not None:
        tower = config.vision
        divided = config.vision.parameters - tower.repeated
        found.append(Weight("vision", WeightGroup.VISION, (divided,), Split.TOWER, tower.heads or 1))
        found.append(Weight("vision.repeated", WeightGroup.VISION, (tower.repeated,)))
    return tuple(found)


def weights(config: ModelConfig, *, mtp: bool = False) -> tuple[Weight, ...]:
    """Every weight of the model; `mtp` adds the layers of multi-token prediction, each prediction's join and norms."""
    found = list(outer_weights(config))
    for layer in config.layers:
        found += layer_weights(config, layer)
    if mtp:
        hidden = config.hidden_size
        for first, *others in config.predictions:
            found += layer_weights(config, first)
            found.append(_in_layer(matrix_weight(JOIN, WeightGroup.DENSE_FFN, hidden, 2 * hidden), first.index))
            found += [
                _in_layer(vector_weight(f"mtp_norm.{n}", WeightGroup.NORM, hidden), first.index) for n in range(3)
            ]
            for layer in others:
                found += layer_weights(config, layer)
    return tuple(found)


def parameter_counts(config: ModelConfig, *, mtp: bool = False, vision: bool = False) -> ParameterCounts:
    """
    Parameters of the decoder as its reference implementation counts them.

    `vision` adds the vision tower, `mtp` the layers of multi-token prediction. Active parameters count the routed
    experts by `per_token / experts`, and of lookup tables the rows that one token reads.
    """
    kept = [item for item in weights(config, mtp=mtp) if vision or item.group is not WeightGroup.VISION]
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
        if item.group is WeightGroup.EXPERTS and item.layer is not None
    )
    looked_up = by_group.get(WeightGroup.LOOKUP.value, 0)
    read = sum(layer.lookup.heads * layer.lookup.width for layer in config.layers if layer.lookup is not None)
    total, experts = sum(by_group.values()), by_group.get(WeightGroup.EXPERTS.value, 0)
    return ParameterCounts(
        total=total,
        experts=experts,
        embedding_and_head=by_group.get(WeightGroup.EMBEDDING.value, 0) + by_group.get(WeightGroup.LM_HEAD.value, 0),
        active=total - experts + active_experts - looked_up + read,
        by_group=tuple(sorted(by_group.items())),
    )
