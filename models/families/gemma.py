"""Gemma 3, 3n and 4: five layers of sliding attention to one of full attention, norms before and behind each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import AlternatingStreams, Layer, ModelConfig, PerLayerInputs
from memplan.models.families.common import assemble
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import MOST_ELEMENTS, Fields, layer_count
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm


def _sliding_layers(fields: Fields, layers: int) -> list[bool]:
    if fields.has("layer_types"):
        kinds = fields.list_of("layer_types", str, at_least=layers)
        for number, kind in enumerate(kinds):
            if kind not in ("sliding_attention", "full_attention"):
                raise fields.wrong(
                    f"layer_types[{number}]", Sentence("{!r} is not an attention of {}", (kind, fields.family))
                )
        return [kind == "sliding_attention" for kind in kinds]
    if not fields.has("sliding_window_pattern"):
        raise fields.wrong(
            "layer_types",
            Sentence("is missing, or sliding_window_pattern is; the {} family needs one", (fields.family,)),
        )
    every = fields.count("sliding_window_pattern")
    return [bool((index + 1) % every) for index in range(layers)]


def gemma3(fields: Fields) -> ModelConfig:
    """Gemma 3 decoder."""
    layers = layer_count(fields)
    window = fields.count("sliding_window")
    ffn = DenseFfn(fields.count("intermediate_size"))
    stack = [
        Layer(
            index,
            GroupedAttention(
                heads=fields.count("num_attention_heads"),
                kv_heads=fields.count("num_key_value_heads"),
                head_dim=fields.count("head_dim"),
                head_dim_v=fields.count("head_dim"),
                window=window if sliding else None,
                qk_norm=QkNorm.PER_HEAD,
            ),
            ffn,
            norms=4,
        )
        for index, sliding in enumerate(_sliding_layers(fields, layers))
    ]
    return assemble(fields, family="gemma3", layers=stack, tied=True)


def _widths(fields: Fields, layers: int) -> Sequence[int]:
    """The width of every layer's feed-forward part: one for all, or a list."""
    if isinstance(fields.values.get("intermediate_size"), list):
        widths = fields.list_of("intermediate_size", int, at_least=layers)
        for number, width in enumerate(widths):
            if not 0 < width <= MOST_ELEMENTS:
                raise fields.wrong(f"intermediate_size[{number}]", Sentence("{} is no width", (width,)))
        return widths
    return [fields.count("intermediate_size")] * layers


def gemma3n(fields: Fields) -> ModelConfig:
    """
    Gemma 3n decoder: streams that alternate, inputs of each layer's own; the last `num_kv_shared_layers` read the cache
    of the last layer of their kind before them.
    """
    layers = layer_count(fields)
    sliding = _sliding_layers(fields, layers)
    shared_from = layers - fields.count_or("num_kv_shared_layers", 15)
    window = fields.count("sliding_window")
    stack = []
    for index, (is_sliding, width) in enumerate(zip(sliding, _widths(fields, layers), strict=True)):
        earlier = [other for other in range(min(index, shared_from)) if sliding[other] == is_sliding]
        if index >= shared_from and not earlier:
            raise fields.wrong(
                "num_kv_shared_layers", Sentence("layer {} has no earlier layer of its kind to share with", (index,))
            )
        mixer = GroupedAttention(
            heads=fields.count("num_attention_heads"),
            kv_heads=fields.count("num_key_value_heads"),
            head_dim=fields.count("head_dim"),
            head_dim_v=fields.count("head_dim"),
            window=window if is_sliding else None,
            qk_norm=QkNorm.PER_HEAD,
            shares_kv_of=earlier[-1] if index >= shared_from else None,
        )
        stack.append(Layer(index, mixer, DenseFfn(width), norms=4))
    model = assemble(fields, family="gemma3n", layers=stack, tied=True)
    own = PerLayerInputs(fields.count("vocab_size_per_layer_input"), fields.count("hidden_size_per_layer_input"))
    streams = AlternatingStreams(fields.count("altup_num_inputs", least=2), fields.count("laurel_rank"))
    return replace(model, per_layer_inputs=own, alternating=streams)


def _gemma4_ffn(fields: Fields, *, wide: bool) -> Ffn:
    width = fields.count("intermediate_size") * (2 if wide else 1)
    if not fields.flag("enable_moe_block", False):
        return DenseFfn(width)
    return MoeFfn(
        experts=fields.count("num_experts"),
        per_token=fields.count("top_k_experts"),
        intermediate=fields.count("moe_intermediate_size"),
        dense_intermediate=width,
        router_scales=True,
    )


def _gemma4_heads(fields: Fields, index: int, *, sliding: bool, one_vector: bool) -> tuple[int, int]:
    """
    Elements of a head and key/value heads of layer `index`. Files that transformers 5.20.2 wrote list what differs from
    the other layers in `per_layer_config`, by numbers with as many digits as they need (Gemma4TextConfig).
    """
    own = fields.count("num_key_value_heads")
    if fields.has("per_layer_config"):
        listed = fields.within("per_layer_config")
        name = next((key for key in listed.values if key.isdecimal() and int(key) == index), None)
        row = listed.within(name) if name is not None else Fields({}, family=fields.family)
        return row.count_or("head_dim", fields.count("head_dim")), row.count_or("num_key_value_heads", own, least=1)
    if sliding:
        return fields.count("head_dim"), own
    dim = fields.count("global_head_dim")
    return dim, fields.count_or("num_global_key_value_heads", own, least=1) if one_vector else own


def gemma4(fields: Fields) -> ModelConfig:
    """
    Gemma 4 decoder: the full layers have heads of `global_head_dim`, and their own count of key/value heads where
    `attention_k_eq_v` says that keys serve as values; the last `num_kv_shared_layers` read an earlier layer's cache.
    """
    layers = layer_count(fields)
    # The last layer attends to everything whatever the file says (transformers 5.20.2 Gemma4TextConfig).
    sliding = [*_sliding_layers(fields, layers)[:-1], False]
    shared_from = layers - fields.count_or("num_kv_shared_layers", 0)
    one_vector = fields.flag("attention_k_eq_v", False)
    wide = fields.flag("use_double_wide_mlp", False)
    heads, window = fields.count("num_attention_heads"), fields.count("sliding_window")
    stack = []
    for index, is_sliding in enumerate(sliding):
        dim, kv_heads = _gemma4_heads(fields, index, sliding=is_sliding, one_vector=one_vector)
        earlier = [other for other in range(min(index, shared_from)) if sliding[other] == is_sliding]
        if index >= shared_from and not earlier:
            raise fields.wrong(
                "num_kv_shared_layers", Sentence("layer {} has no earlier layer of its kind to share with", (index,))
            )
        mixer = GroupedAttention(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim,
            head_dim_v=dim,
            window=window if is_sliding else None,
            qk_norm=QkNorm.PER_HEAD,
            keys_are_values=one_vector and not is_sliding,
            shares_kv_of=earlier[-1] if index >= shared_from else None,
        )
        ffn = _gemma4_ffn(fields, wide=wide and index >= shared_from)
        stack.append(Layer(index, mixer, ffn, norms=7 if isinstance(ffn, MoeFfn) else 4))
    model = assemble(fields, family="gemma4", layers=stack, tied=True)
    width = fields.count_or("hidden_size_per_layer_input", 0)
    extra = PerLayerInputs(fields.count("vocab_size_per_layer_input"), width) if width else None
    return replace(model, per_layer_inputs=extra)
